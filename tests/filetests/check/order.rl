# test: check
# Order does not matter: everything is read before it is declared.
minimize mean(mean(score per part)) * token_mean(logp * weight) + rate
update rate = mean(count(cell per group)) * half
metric seen = count(piece)
key piece = (part, correct)
key cell = (group, position)
input weight : real @ part
input score : real @ inside
list inside in part
level part in rollout
state rate = 0.5
param half = 0.5
extend grpo
allow unused_definition
allow coupling_raised
