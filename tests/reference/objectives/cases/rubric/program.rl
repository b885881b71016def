list criterion in rollout
input weight : real @ criterion
input met    : bool @ criterion
# The weighted share of criteria that were met is the reward; a rollout without criteria keeps its own.
number    = count(criterion per rollout)
graded    = if number > 0 then sum(weight where met per rollout) / max(sum(weight per rollout), 0.001) else reward
advantage = group_norm(graded)
metric met     = mean(met)
metric ungraded = mean(number == 0)
