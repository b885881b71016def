extend nothing
keep token where mask
drop rollout where truncated
so_far = cumsum(reward in group)
former = prev(reward, -1 in group)
later  = next(mean(logp per rollout), 0 in group)
number = index(token in batch) + 10 * index(group in batch) + index(token in group)
first  = is_first(rollout in batch) or is_last(group in batch)
loss   = mean(mean(logp per rollout) * so_far) + mean(later * former) + 0.01 * mean(number * logp) + mean(logp where first)
minimize loss
