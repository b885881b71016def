extend nothing
keep token where mask
key node = prefix(action in group)
# Rollouts that agree on every token so far, masked ones too, are in one node.
shared = count(token per node)
odds   = mean(logp per node)
number = index(node in group)
loss   = mean(exp(odds)) + 0.1 * mean((shared + 0.1 * number) * logp) + 0.1 * mean(mean(odds ^ 2 per group))
minimize loss
metric nodes = mean(count(node per group))
