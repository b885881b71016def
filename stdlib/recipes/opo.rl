# OPO: On-Policy RL with Optimal Reward Baseline.
# Yaru Hao et al., "On-Policy RL with Optimal Reward Baseline", 2025, arXiv 2505.23585.
#
# The baseline with the least variance weighs rewards by length, since long rollouts have large gradients.
#
#     A_i = R_i - sum_G (n_j R_j) / sum_G n_j          n: number of tokens of the rollout
#     L   = sum_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: as in verl: a group of one keeps its reward, n counts kept tokens, and the policy loss stays PPO's.

extend bnpo

## Length-weighted mean reward of a group, in the unit of the reward.
baseline  = if count(rollout per group) == 1 then 0 else mean(reward @ token per group)
## Credit of a token, in the unit of the reward.
advantage = reward - baseline
