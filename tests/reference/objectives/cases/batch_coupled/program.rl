extend nothing
keep token where mask
loss = log(mean(exp(logp - old_logp))) + 0.1 * std(mean(logp per rollout))
minimize loss
