extend nothing
by_rollout = mean(reward per group)
by_token   = mean(reward @ token per group)
loss = mean((reward - by_rollout) @ token * logp) + mean((reward - by_token) @ token * logp ^ 2)
minimize loss
