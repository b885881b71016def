extend nothing
key calm = runs(old_logp > -1.2 in rollout)
# Long runs go; tokens that stand in no run stay. A run keeps its place though its neighbours are gone.
drop calm where count(token per calm) > 2
keep token where mask
short = mean(logp per calm)
after = next(logp, 0 in rollout)
loss  = mean(mean(short per rollout) ^ 2) + mean(logp * after) / 10 - 0.1 * mean(logp)
minimize loss
metric runs   = count(calm)
metric tokens = count(token)
