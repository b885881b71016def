extend nothing
keep token where mask
key cell = (group, position)
# Ties share the gradient across rollouts.
high = max(logp per cell)
low  = min(logp per cell)
some = max(logp, default = -9 where token_reward > 0 per cell)
loss = mean(mean(high - 0.5 * low per group)) + 0.01 * mean(some @ token)
minimize loss
