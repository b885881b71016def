extend nothing
keep token where mask
key duel = pairs(rollout in group)
# The score of one side times what is recorded of the other: a sum over tokens.
loss = -mean(left(mean(logp per rollout) in duel) * (left(reward in duel) - right(reward in duel)))
minimize loss
