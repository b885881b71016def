extend nothing
# A condition on the policy itself; the sum needs no count.
keep token where mask
keep token where logp > old_logp - 0.2
loss = -sum(logp * old_logp) / 10
minimize loss
metric tokens = count(token)
