# MTP policy loss: multi-token prediction heads trained by the reward.
# Zili Wang et al., "Joint Training of Multi-Token Prediction in Reinforcement Learning via Optimal
# Coefficient Calibration", 2026, arXiv 2605.28184, its Policy regime; code in MarkXCloud/RL-MTP.
#
# The head gets the policy's own loss at a constant weight, so that it leans where the reward does.
#
#     L = L_PG(logp, A) + L_PG(mlp, lam A)
#     L_PG(x, A) = sum_t -dual(exp(x_t - old_logp_t), A_i) / (number of tokens)
#
# Family: multi-token prediction.
# Confidence: exact from code.
# Choices: The head's ratio is taken against the main head's old log-probability, as in the code: heads
# have none of their own.
# To train: a model with an MTP head, as for `occ_ce`.

extend occ_ce

mtp_loss = -token_mean(dual_clipped(exp(mlp - old_logp), lam * advantage, clip_low, clip_high, clip_ratio_c))
