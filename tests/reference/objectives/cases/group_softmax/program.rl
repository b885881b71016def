extend nothing
keep token where mask
score  = mean(logp per rollout)
weight = exp(score - logsumexp(score per group))
loss   = -mean(sum(weight * reward per group))
minimize loss
