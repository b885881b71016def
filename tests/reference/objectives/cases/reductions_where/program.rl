extend nothing
keep token where mask
good = mean(logp where token_reward > 0 per rollout)
bad  = mean(logp where not (token_reward > 0) per rollout)
# A condition at a coarser level than the elements.
won  = sum(logp where correct per group)
loss = mean(good) - 0.5 * mean(bad where count(token per rollout) > 1) + 0.01 * mean(won)
minimize loss
