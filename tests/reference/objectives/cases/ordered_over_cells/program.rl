extend nothing
keep token where mask
key cell = (group, position)
key half = (group, correct)
# Cells of a group as the elements; rollouts and turns in the scope of a set of rollouts.
crowd  = count(token per cell)
number = index(cell in group)
grown  = cumsum(crowd in group)
trend  = mean(logp per cell) - prev(mean(logp per cell), 0 in group)
place  = rank(reward in half) + 10 * index(rollout in half)
turn_  = index(turn in half)
loss   = mean(trend ^ 2) + 0.1 * mean((number + grown) * logp) + 0.01 * mean(place * logp) + 0.1 * mean(turn_ * logp)
minimize loss
metric widest = mean(argmax(crowd in group) == number)
