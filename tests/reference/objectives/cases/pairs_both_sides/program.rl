extend nothing
keep token where mask
key duel = pairs(rollout in group)
# Reduced to either side, with gradient through the pair to the other one.
score = sum(logp per rollout)
lead  = sum(sigmoid(left(score in duel) - right(score in duel)) per duel.left)
lag   = max(left(score in duel) per duel.right)
soft  = logsumexp(right(score in duel) / 2 per duel.left)
loss  = mean(lead * reward) - 0.1 * mean(lag) + 0.1 * mean(if soft > -inf then soft else 0)
minimize loss
