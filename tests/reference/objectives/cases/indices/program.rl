extend nothing
keep token where mask
place = real(index(token in rollout)) / 10 + real(index(turn in rollout)) + 0.1 * index(rollout in group)
edge  = is_first(token in rollout) or is_last(token in turn)
loss  = mean(place * logp) + sum(logp where edge) / 10 + mean(logp where is_last(turn in rollout))
        - mean(logp where is_first(rollout in group))
minimize loss
