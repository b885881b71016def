extend nothing
keep token where mask
key cell = (group, position)
# Conditions of the elements' level and of the cell's; cells in which nothing holds.
good  = mean(logp where token_reward > 0 per cell)
crowd = count(token per cell) > 1
both  = sum(logp where crowd @ token and correct per group)
loss  = mean(good ^ 2 where crowd) + mean(logp where not crowd @ token) + 0.1 * mean(exp(both / 10))
minimize loss
metric crowds = mean(crowd)
