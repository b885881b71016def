extend nothing
keep token where mask
key stage = (group, index(turn in rollout))
# The condition numbers all turns; the loss numbers those that are left.
drop stage where mean(step_reward per stage) < -0.2
loss = mean(mean(logp per turn) * step_reward) + 0.1 * mean(index(turn in rollout) * logp) + mean(exp(mean(logp per stage)))
minimize loss
metric turns  = count(turn)
metric stages = count(stage)
