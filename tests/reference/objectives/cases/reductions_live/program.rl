extend nothing
keep token where mask
peak   = max(logp per rollout)
trough = min(logp per turn)
wide   = var(logp per rollout)
narrow = std(logp, ddof = 0 per turn)
apart  = std(logp per group)
loss = mean(peak) + 2 * mean(trough) + mean(wide) - mean(narrow) + 0.1 * mean(apart)
minimize loss
