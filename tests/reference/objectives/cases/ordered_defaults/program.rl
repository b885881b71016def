extend nothing
keep token where mask
# A default of a coarser level, of the same level, and a live one.
boot = next(old_value, reward in rollout)
self = next(old_value, old_value in turn)
held = prev(old_logp, logp, by = 2 in rollout)
loss = mean((boot + self) * logp) + mean(held ^ 2)
minimize loss
