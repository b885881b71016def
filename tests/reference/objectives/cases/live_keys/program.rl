extend nothing
keep token where mask
key side = (group, logp > -1)
key part = (rollout, entropy > 0.8)
swing = mean(mean(logp per side) per group)
calm  = mean(mean(logp per part) per rollout)
loss  = mean(swing) + 0.5 * mean(calm)
minimize loss
metric sides = count(side)
metric parts = count(part)
