extend nothing
level item in rollout
input score : real @ item
input tool : int @ item
keep token where mask
key kind = (group, tool)
# Sets of items, some of them empty, and what the group's items of one tool have in common.
above = score - mean(score per kind)
words = mean(mean(logp per item) per kind)
loss  = mean(above * mean(logp per item)) + mean(words ^ 2)
minimize loss
metric kinds = mean(count(kind per group))
