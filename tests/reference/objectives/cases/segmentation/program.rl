level item in rollout
input score : real @ item
advantage = norm(score per group)
ratio     = exp(mean(logp - old_logp per item))
loss      = -mean(surrogate)
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high))
