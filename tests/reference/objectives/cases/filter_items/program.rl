extend nothing
level item in rollout
input score : real @ item
# Items cut across turns: a turn keeps the tokens of the items that stay.
keep item where score > -0.3
loss = mean(mean(logp per turn)) + mean(score * mean(logp ^ 2 per item)) + mean(logp * next(score, 0 in rollout) @ token)
minimize loss
metric items  = count(item)
metric tokens = count(token)
