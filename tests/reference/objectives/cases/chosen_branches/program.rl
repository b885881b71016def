extend nothing
keep token where mask
# Conditions coarser and finer than the branches, and branches that are truth values.
a    = if correct then logp else 2
b    = if token_reward > 0 then reward else 1
flag = if correct then truncated else token_reward > 0.2
loss = mean(a * b) + mean(logp where flag) + sum(if flag == correct then logp else 0) / 7 + mean(if count(flag per rollout) > 1 then exp(mean(logp per rollout)) else 1)
minimize loss
