extend nothing
keep token where mask
key half = (group, correct)
key cell = (group, position)
# Updates read the batch through keys; the loss reads what was before it.
state rate[prompt] : real @ group = 0.5
state bar = 0.0
update rate = 0.8 * rate + 0.2 * mean(mean(reward per half) per group)
update bar  = 0.9 * bar + 0.1 * mean(mean(old_logp per cell))
loss = mean((reward - rate) * mean(logp per rollout)) + mean(mean(logp per cell) * (mean(old_logp per cell) - bar))
minimize loss
metric bar = bar
