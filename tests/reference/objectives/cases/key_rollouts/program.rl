extend nothing
keep token where mask
key half = (group, correct)
# Sets of rollouts: one exists when its rollouts have no kept token, too.
usual = mean(reward per half)
score = mean(mean(logp per rollout) per half)
size  = count(rollout per half)
loss  = mean(mean(exp(score) per group)) + 0.1 * mean((usual + size) * logp)
minimize loss
metric halves = count(half)
metric tokens = mean(count(token per half))
