extend nothing
keep token where mask
weight = detach(exp(mean(logp - old_logp per rollout)))
loss   = -mean(weight * logp)
minimize loss
