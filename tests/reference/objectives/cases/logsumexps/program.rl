extend nothing
keep token where mask
# Of nothing -inf, which exp and the branch not taken turn into 0.
energy = logsumexp(2 * logp per rollout)
safe   = if count(token per rollout) > 0 then energy else 0
low    = logsumexp(if token_reward > 0 then logp else -inf per rollout)
loss   = mean(safe) + mean(exp(logsumexp(logp where token_reward > 0 per turn))) + mean(if low > -inf then low else 0)
minimize loss
