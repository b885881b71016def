extend reg_grpo
param eps  = 1e-9
param beta = 0
input credit : real @ rollout
advantage = credit
