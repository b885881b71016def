extend nothing
input pivot : real @ token
start  = first(logp per rollout)
finish = last(logp per turn)
# One factor of 0 leaves the gradient of that factor, two leave none.
factor = prod((logp - pivot) per rollout)
odds   = prod(1 - exp(logp) per turn)
loss = mean(start) + 0.5 * mean(finish) + mean(factor) + mean(odds)
minimize loss
