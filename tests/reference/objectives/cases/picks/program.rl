extend nothing
input far : int @ token
keep token where mask
# The i-th kept element of the scope; outside 0 .. n - 1 the default, which may be live.
second = pick(logp, 1, -2 in rollout)
jump   = pick(logp, index(token in rollout) + far, logp in rollout)
ends   = pick(old_logp, count(token per turn) - 1, 0 in turn)
best   = pick(reward, argmax(reward in group), 0 in group)
turn_  = pick(step_reward, index(turn in rollout) - 1, reward in rollout)
loss   = mean((second - old_logp) ^ 2) + mean(jump * old_logp) + 0.1 * mean((ends + turn_) * logp) - 0.1 * mean(best * logp)
minimize loss
