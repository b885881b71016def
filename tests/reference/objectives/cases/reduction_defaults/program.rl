extend nothing
keep token where mask
best  = max(token_reward, default = -1 where token_reward > 0.5 per rollout)
worst = min(token_reward, default = 2 where token_reward < -0.5 per rollout)
peak  = max(logp, default = 5 where token_reward > 0 per rollout)
loss  = mean((best + worst) @ token * logp) + mean(peak)
minimize loss
