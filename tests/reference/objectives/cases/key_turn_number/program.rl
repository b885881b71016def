extend nothing
keep token where mask
key stage = (group, index(turn in rollout))
# A part that is computed: the k-th turns of a group's rollouts.
mark  = step_reward - mean(step_reward per stage)
loss  = mean(mark * mean(logp per turn)) + mean(std(mean(logp per turn) per stage))
minimize loss
metric stages = mean(count(stage per group))
