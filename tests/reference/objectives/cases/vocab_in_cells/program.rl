extend nothing
keep token where mask
key cell = (group, position)
# Entropies of one place in a group: the rows stay with their tokens, only numbers meet.
usual  = mean(entropy per cell)
weight = sigmoid(entropy - usual)
loss   = -mean(detach(weight) * logp * reward) + 0.1 * mean(std(entropy per cell))
minimize loss
