extend nothing
keep token where mask
key never  = runs(old_logp > 5 in rollout)
key always = runs(old_logp < 5 in rollout)
loss = mean(exp(mean(logp per always))) + sum(mean(logp per never)) + mean(mean(logp per never) @ token * old_logp) - 0.1 * mean(logp)
minimize loss
metric never  = count(never)
metric always = count(always)
metric most   = real(max(count(token per never)))
