extend nothing
keep token where mask
key calm = runs(old_logp > -1.6 in rollout)
# Outside a run a condition is false once it has been brought down, so `not` there is true.
long   = count(token per calm) > 1
inside = mean(logp where long)
beyond = mean(logp where not long @ token)
short  = mean(logp where (not long) @ token)
choice = if long then logp else old_logp
loss   = inside - 0.5 * beyond + 0.25 * short + 0.1 * mean(choice * token_reward)
minimize loss
metric longs = mean(any(long per rollout))
