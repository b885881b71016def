# GRPO scaled by the batch's deviation.
# TRL, GRPOTrainer with scale_rewards "batch"; arXiv 2508.08221.
#
# Rewards are centred in their group and divided by the deviation of all rewards of the batch, so that an
# almost solved prompt is not blown up.
#
#     A_i = (R_i - mean_G R) / (std_B R + eps)
#
# Family: advantage.
# Confidence: exact from code.

extend grpo

## Credit of a token, in standard deviations of the batch's rewards.
advantage = center(reward) / (std(reward) + 1e-4)
