extend nothing
keep token where mask
key cell = (group, position)
# In the order of the file: the group's first and last rollout that reach this place.
head = first(logp per cell)
tail = last(logp per cell)
good = first(old_logp where token_reward > 0 per cell)
loss = mean((head - tail) ^ 2) + 0.1 * mean(head) + mean(logp * good)
minimize loss
