extend nothing
key calm = runs(old_logp > -0.9 in rollout)
# Tokens between the runs get 0 from what is per run.
pace   = mean(logp per calm)
weight = pace + 1
size   = count(token per calm)
number = count(calm per rollout)
loss   = mean(exp(pace @ token)) + 0.1 * mean(weight * old_logp) + 0.1 * mean(size * logp) + 0.1 * mean(number * mean(logp per rollout))
minimize loss
metric runs = count(calm)
