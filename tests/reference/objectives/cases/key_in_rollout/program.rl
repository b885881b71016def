extend nothing
input kind : int @ token
keep token where mask
key sort_of = (rollout, kind)
ratio = exp(mean(logp - old_logp per sort_of))
kinds = count(sort_of per rollout)
loss  = -mean(mean(ratio per rollout) * reward) + 0.01 * mean(kinds * logp)
minimize loss
