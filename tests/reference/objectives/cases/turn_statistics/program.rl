extend nothing
keep token where mask
turns  = count(turn per rollout)
best   = max(step_correct per group)
last_q = last(step_correct per rollout)
weight = (step_correct - mean(step_correct per rollout)) * real(turns) + best - last_q + quantile(step_reward, 0.25 per group)
loss   = mean(weight * logp)
minimize loss
metric turns = mean(turns)
