extend nothing
keep token where mask
key cell = (group, position)
tokens = count(token per cell)
paid   = count(token_reward > 0 per cell)
number = count(cell per group)
alone  = count(tokens == 1 per group)
weight = real(tokens) + 0.1 * real(paid) + 0.01 * real(number @ cell) - 0.2 * real(alone)
loss   = mean(weight * logp)
minimize loss
metric cells = count(cell)
metric most  = real(max(tokens))
