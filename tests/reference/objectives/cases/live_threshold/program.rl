extend nothing
keep token where mask
# The comparison has no gradient but reads the whole batch's policy.
loss = -sum(if logp > mean(logp) then logp else 0) / 10
minimize loss
