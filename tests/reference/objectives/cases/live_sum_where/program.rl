extend nothing
keep token where mask
loss = -sum(logp where logp > old_logp) / count(token)
minimize loss
