param weights[3] = 0.5
input rewards[3] : real @ rollout
advantage = group_norm(sum(weights[k] * rewards[k] * k for k in 1..3)) + 0 * weights[2]
