extend nothing
keep token where mask
drop rollout where truncated
key duel = pairs(rollout in group)
close = abs(left(reward in duel) - right(reward in duel)) < 0.3
rival = count(close per duel.left)
score = mean(old_logp per rollout)
gap   = mean(left(score in duel) - right(score in duel) where close per duel.left)
loss  = mean((rival + gap) * logp)
minimize loss
metric duels = count(duel)
