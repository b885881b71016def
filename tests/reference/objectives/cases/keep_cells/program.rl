extend nothing
keep token where mask
key cell = (group, position)
# The condition sees the whole table: cells of masked tokens too. The loss sees what both filters left.
keep cell where count(token per cell) > 1
spread = std(old_logp per cell)
loss   = mean(mean(logp per cell) ^ 2) + mean(spread @ token * logp)
minimize loss
metric cells  = count(cell)
metric tokens = count(token)
