extend nothing
param beta = 0.5
param lam  = 1.0
keep token where mask
key side = (group, correct)
# Group equivalent preference: winners' implicit rewards above losers', and alike among themselves.
implicit = beta * sum(logp - ref_logp per rollout)
inside   = mean(implicit per side)
lead     = mean(inside where correct_side per group) - mean(inside where not correct_side per group)
correct_side = any(correct per side)
loss     = -mean(log_sigmoid(lead)) + lam * mean(var(implicit, ddof = 0 per side) where correct_side)
minimize loss
