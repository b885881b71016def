# RLOO as in verl.
# verl, adv_estimator "rloo"; after Arash Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style
# Optimization for Learning from Human Feedback in LLMs", 2024, arXiv 2402.14740.
#
# The mean reward of the other rollouts of the prompt is the baseline; the policy loss stays PPO's per token.
#
#     A_i = n / (n - 1) (R_i - mean_G R)
#     L   = sum_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: a group of one keeps its reward (`rloo`); verl's vectorised form gives 0 (`singleton_zero = true`).

extend bnpo

## Whether a group of one has advantage 0. Off (verl: rloo off, rloo_vectorized on).
param singleton_zero = false

lonely    = count(rollout per group) == 1
## Credit of a token, in the unit of the reward.
advantage = if singleton_zero and lonely then 0 else leave_one_out(reward)
