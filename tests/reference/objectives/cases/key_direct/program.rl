extend nothing
keep token where mask
# A partition without a name, at four places of which two are the same.
above = old_logp - mean(old_logp per (group, position))
scale = std(old_logp per (group, position)) + 0.1
half  = mean(reward per (group, correct))
loss  = mean(above / scale * logp) + mean(half * mean(logp per rollout)) + mean(exp(mean(logp per (rollout, position % 2))) @ token)
minimize loss
