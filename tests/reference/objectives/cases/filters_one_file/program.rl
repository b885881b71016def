extend nothing
# No condition sees what another one of the same file removes: the sum is over all tokens.
keep token where mask
keep rollout where sum(token_reward per rollout) > 0
drop token where old_logp < -2.5
drop group where max(reward per group) == min(reward per group)
loss = mean(mean(-logp * token_reward per rollout)) + 0.1 * mean(mean(logp per group))
minimize loss
metric groups   = count(group)
metric rollouts = count(rollout)
metric tokens   = count(token)
