extend nothing
keep token where mask
key cell = (group, position)
some  = any(token_reward > 0 per cell)
every = all(old_logp < -0.2 per cell)
weight = (if some then 2 else 1) - (if every then 0.5 else 0)
loss  = mean(weight * logp) + 0.1 * mean(logp where some and not every)
minimize loss
metric share = mean(some)
metric open  = mean(any(some and every per group))
