extend nothing
level item in rollout
keep token where mask
# A product of two sums: tokens of one rollout read each other through turns and through items.
loss = mean(mean(logp per turn) @ token * mean(logp per item) @ token)
minimize loss
