level item in rollout
input score : real @ item
advantage = norm(score per group)
ratio     = exp(mean(logp - old_logp per item))
loss      = -mean(surrogate)
metric items = count(item)
metric clip_fraction = 0
