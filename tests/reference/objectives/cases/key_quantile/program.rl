extend nothing
param share = 0.25
keep token where mask
key cell = (group, position)
low  = quantile(logp, share per cell)
mid  = quantile(old_logp, 0.5 per cell)
loss = mean(low) + mean(logp where old_logp > mid)
minimize loss
