# test: laws
# seed: 2
# Entries of rows that are computed from the row's own sums.
#: policy logits
#: group
#:   rollout reward=1.0
#:     turn
#:       token action=1.0 logits=0.0,1.0,-1.0,0.5
#:       token action=3.0 logits=2.0,0.0,0.0,-2.0
#:   rollout
#:     turn
#:       token action=0.0 logits=0.0,0.0,0.0,0.0
extend nothing
p = softmax(logits)
loss = mean(at(p * log_softmax(logits / (1 + reward)), action) - sum(p ^ 2 per token))
minimize loss
