# Leave-one-out by pairs: the mean reward of a rollout's opponents. Alone in its group, it has none.
key duel  = pairs(rollout in group)
others    = mean(right(reward in duel) per duel.left)
wins      = count(left(reward in duel) > right(reward in duel) per duel.left)
best      = max(left(reward in duel), default = -1 per duel.right)
advantage = reward - others + 0.1 * wins + 0.01 * best
metric opponents = mean(count(duel per duel.left))
