extend nothing
keep token where mask
key cell = (group, position)
wide   = std(logp per cell)
narrow = var(logp, ddof = 0 per cell)
loss   = mean(wide) + mean(narrow) - 0.1 * mean(mean(wide per group) * old_logp)
minimize loss
