extend nothing
keep token where mask
key won  = (correct,)
key same = (prompt,)
# Nothing but the batch contains these; one is a set of rollouts, the other of groups.
side  = mean(logp per won)
theme = mean(mean(mean(logp per rollout) per group) per same)
fixed = mean(reward per same)
loss  = mean(exp(side)) + mean(theme ^ 2) + 0.1 * mean(fixed * logp)
minimize loss
metric sides = count(won)
metric topics = count(same)
