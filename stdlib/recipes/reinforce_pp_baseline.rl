# REINFORCE++-baseline.
# Jian Hu et al., "REINFORCE++: A Simple and Efficient Approach for Aligning Large Language Models",
# 2025, arXiv 2501.03262.
#
# The group's mean is the baseline, and the scale is that of the whole batch.
#
#     A_t = whiten_B(R_i - mean_G R)          over all tokens: (x - mean) / sqrt(var + 1e-8)
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: as in verl, where the moments weigh a rollout by its length and a group of one keeps its reward;
# OpenRLHF divides by the population deviation.

extend bnpo

above     = if count(rollout per group) == 1 then reward else center(reward)
## Credit of a token, in standard deviations of the batch's centred rewards.
advantage = batch_norm(above @ token)
