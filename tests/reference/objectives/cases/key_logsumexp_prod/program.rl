extend nothing
keep token where mask
key cell = (group, position)
energy = logsumexp(2 * logp per cell)
odds   = prod(1 - exp(logp) per cell)
paid   = prod(1 + token_reward where token_reward > 0 per cell)
loss   = mean(energy) + mean(odds) + 0.1 * mean(mean(paid @ token * logp per group))
minimize loss
