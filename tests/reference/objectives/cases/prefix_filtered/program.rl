extend nothing
keep token where mask
drop rollout where truncated
key node = prefix(action in group)
# Only where rollouts still share their way; the way itself is that of all tokens.
keep node where count(token per node) > 1
loss = mean(exp(mean(logp * reward per node))) + 0.1 * mean(mean(logp per rollout))
minimize loss
metric nodes = count(node)
