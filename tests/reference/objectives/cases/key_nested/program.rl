extend nothing
keep token where mask
key cell = (group, position)
key fine = (group, position, correct)
# One tuple inside another, reduced from one to the other, and values of both meeting at the finer.
inner = mean(logp per fine)
outer = mean(inner per cell)
gap   = inner - outer
sides = count(fine per cell)
loss  = mean(mean(gap ^ 2 per cell)) + mean(exp(outer)) + 0.1 * mean(sides * logp)
minimize loss
