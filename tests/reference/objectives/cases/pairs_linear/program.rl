extend nothing
keep token where mask
key duel = pairs(rollout in group)
# A sum over tokens, if it were written so; live values of a pair couple at its group.
loss = -mean(left(mean(logp per rollout) in duel) * (left(reward in duel) - right(reward in duel)))
minimize loss
