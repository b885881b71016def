extend nothing
keep token where mask
key segment = splits(entropy > 1.2 in rollout)
spread = std(logp per segment)
loss   = mean(sum(spread per rollout)) - 0.1 * mean(mean(logp per segment) @ token)
minimize loss
metric segments = count(segment)
