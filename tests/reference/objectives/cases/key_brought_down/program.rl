extend nothing
keep token where mask
key cell = (group, position)
# The mean over cells weighs groups by their number of places, the mean over groups does not.
by_cell  = mean(mean(reward per group) @ cell)
by_group = mean(mean(reward per group))
wide     = std(real(length) @ token per cell) @ token
loss     = by_cell * mean(logp) - by_group * mean(logp ^ 2) + 0.01 * mean(wide * logp)
minimize loss
metric by_cell  = by_cell
metric by_group = by_group
