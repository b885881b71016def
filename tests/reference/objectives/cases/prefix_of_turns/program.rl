extend nothing
input seen : int @ turn
keep token where mask
drop rollout where truncated
key node = prefix(seen in group)
key side = (node, correct @ turn)
# A tree of turns: nodes are sets of turns, and of those the right and the wrong ones.
ret   = rcumsum(step_reward in rollout)
above = ret - mean(ret per node)
words = mean(logp per side)
loss  = mean(above * mean(logp per turn)) + mean(mean(exp(words) per node))
minimize loss
metric nodes = count(node)
metric sides = count(side)
