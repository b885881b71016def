extend nothing
keep token where mask
key cell = (group, position)
# Means of means of live values over recorded sets: a sum over tokens, however often it is reduced.
loss = mean(mean(mean(logp per cell) per group)) - 0.1 * mean(mean(logp * old_logp per cell))
minimize loss
