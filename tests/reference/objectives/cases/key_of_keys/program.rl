extend nothing
keep token where mask
key half = (group, correct)
key spot = (half, position)
key cell = (group, position)
# A part that is a key: a spot lies in its half, and in the cell of its group and position.
inner  = mean(logp per spot)
halves = mean(exp(inner) per half)
loss   = mean(halves) + 0.1 * mean(mean(inner per cell) @ token * old_logp)
minimize loss
metric spots = mean(count(spot per half))
