extend nothing
keep token where mask
# Ties by order: equal rewards take ranks in the order of the file, and the earlier one is on top.
place = rank(reward in group)
best  = top(reward, 2 in group)
half  = top(token_reward, ceil(0.5 * count(token per rollout)) in rollout)
wide  = top(old_logp, 5 in batch)
none  = top(old_logp, 0 in rollout)
mid   = quantile(reward, 0.75 per group)
loss  = mean((place + mid) * logp) + mean(logp where best) - mean(logp where half) + mean(logp where wide) + mean(logp where none)
minimize loss
metric tops = mean(count(best per group))
