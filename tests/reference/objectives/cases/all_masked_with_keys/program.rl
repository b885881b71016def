extend nothing
keep token where mask
key cell = (group, position)
key calm = runs(old_logp > -2 in rollout)
key node = prefix(action in group)
key duel = pairs(rollout in group)
# A group without a kept token has no cells, runs or nodes, but still its rollouts and their pairs.
loss = mean(mean(logp per cell) ^ 2) + mean(mean(mean(logp per calm) per rollout)) + mean(mean(mean(logp per node) per group))
        + 0.1 * mean(mean(left(mean(logp per rollout) in duel) per duel.left))
minimize loss
metric cells = mean(count(cell per group))
metric runs  = mean(count(calm per rollout))
metric nodes = mean(count(node per group))
metric duels = mean(count(duel per group))
