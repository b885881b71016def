extend nothing
level item in rollout
input score : real @ item
keep token where mask
# No key: what belongs to turns and to items is brought down to tokens, and up again.
both = step_reward @ token * score @ token
mix  = mean(both per item) @ token - mean(score @ token per turn) @ token
loss = mean(mean(both * logp per turn)) + 0.1 * mean(mix * logp)
minimize loss
metric mixed = mean(mean(step_reward @ token per item))
