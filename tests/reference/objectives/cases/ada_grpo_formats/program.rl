# Rewards of rare formats weigh more, and less so as training goes on.
input format : int @ rollout
key style = (group, format)
rarity    = real(count(rollout per group)) / real(count(rollout per style))
alpha     = 1 + 0.5 * (rarity - 1) * (1 + cos(pi * train.progress))
advantage = group_norm(alpha * reward)
