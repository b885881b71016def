extend nothing
param share = 0.3
keep token where mask
low  = quantile(logp, share per rollout)
mid  = quantile(old_logp, 0.5 per group)
loss = mean(low) + mean(logp where old_logp > mid) + 0.1 * quantile(logp, 0.9)
minimize loss
metric top = quantile(reward, 1.0)
