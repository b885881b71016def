extend nothing
keep token where mask
key cell = (group, position)
middle = mean(logp per cell)
above  = old_logp - mean(old_logp per cell)
loss   = mean(mean(exp(middle) per group)) + 0.1 * mean(above * logp)
minimize loss
