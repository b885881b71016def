extend nothing
list criterion in rollout
input weight : real @ criterion
input kind   : int @ criterion
policy opinion : real @ criterion
keep token where mask
drop rollout where truncated
keep criterion where weight > 0.4
key topic = (group, kind)
# Rows go with their rollout, and are filtered by themselves; tokens do not touch them.
steady = mean((opinion - weight) ^ 2 per rollout)
common = mean(opinion per topic)
rise   = next(weight, 0 in rollout) - weight
top_of = max(weight, default = 0.1 per rollout)
loss   = mean(steady) + 0.1 * mean(common ^ 2) + 0.1 * mean(rise * opinion) + mean(top_of * logp)
minimize loss
metric rows   = count(criterion)
metric topics = count(topic)
