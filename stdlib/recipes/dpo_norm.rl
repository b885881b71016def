# DPO with length-normalised log-ratios.
# TRL, DPOTrainer with loss_type "sigmoid_norm".
#
# Each side's log-ratio is a mean over its tokens, so that length cannot make a margin.
#
#     L = mean over pairs of -log sigmoid(beta (a / n_a - z / n_z))          a, z as in dpo
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

score = mean(token_score per rollout)
