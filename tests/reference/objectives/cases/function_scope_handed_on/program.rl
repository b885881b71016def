extend nothing
fn above(x per L = group) = x - mean(x per L)
fn scaled(x, eps = 0.01 per L = rollout) = norm(x, eps = eps per L) + 0.5 * above(x per L)
keep token where mask
weight = scaled(reward, eps = 0.1 per group) + scaled(step_reward) + above(reward) + mean(reward per batch)
loss   = mean(scaled(token_reward per turn) * logp) + mean(weight @ token * logp)
minimize loss
