extend nothing
keep token where mask
after  = next(logp, 0 in rollout)
before = prev(logp, -1, by = 2 in rollout)
old    = next(old_logp, 0.5 in turn)
loss   = mean((after - logp) ^ 2) + mean(before * old_logp) + mean(old * logp)
minimize loss
