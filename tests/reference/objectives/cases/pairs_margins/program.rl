extend nothing
keep token where mask
key duel = pairs(rollout in group)
score = mean(logp per rollout)
gap   = left(score in duel) - right(score in duel)
won   = left(reward in duel) > right(reward in duel)
loss  = -mean(log_sigmoid(gap) where won) + 0.1 * mean(mean(gap ^ 2 per group))
minimize loss
metric duels = count(duel)
metric won   = mean(won)
metric each  = mean(count(duel per group))
