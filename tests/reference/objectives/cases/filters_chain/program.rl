extend "short.rl"
# Sees the rollouts that the base's filters left.
keep group where count(rollout per group) > 1
