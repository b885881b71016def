# Segments begin at unlikely tokens; one ratio and one advantage for each.
extend nothing
keep token where mask
key segment = splits(old_logp < -1.2 in rollout)
ratio = exp(mean(logp - old_logp per segment))
adv   = reward - mean(reward per group)
value_of = mean(old_value per segment)
term  = clipped(ratio, adv, 0.2, 0.3)
loss  = -mean(mean(term per rollout)) + 0.1 * mean(value_of * logp)
minimize loss
metric segments = mean(count(segment per rollout))
