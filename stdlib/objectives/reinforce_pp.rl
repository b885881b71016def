# REINFORCE++.
# Jian Hu et al., "REINFORCE++: A Simple and Efficient Approach for Aligning Large Language Models",
# 2025, arXiv 2501.03262.
#
# No group baseline: the returns are whitened over all tokens of the batch.
#
#     A_t = (G_t - mean_B G) / sqrt(var_B G + 1e-8)          G_t = R_i (gamma 1, reward at the end)
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: As in verl (reinforce_plus_plus): the moments weigh a rollout by its length.

extend bnpo

## Return of a token: the reward comes with the last token and is not discounted.
ret       = reward @ token
## Credit of a token, in standard deviations of the batch's returns.
advantage = batch_norm(ret)
