extend nothing
keep token where mask
key segment = splits(token_reward > 0 in rollout)
key stage   = (group, index(segment in rollout))
# A key whose part counts elements of another: the k-th segments of a group's rollouts.
worth = sum(token_reward per segment)
above = worth - mean(worth per stage)
loss  = mean(above * mean(logp per segment)) + 0.1 * mean(std(mean(logp per segment) per stage))
minimize loss
metric stages = mean(count(stage per group))
