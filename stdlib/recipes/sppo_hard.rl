# SPPO: Self-Play Preference Optimization, hard labels.
# Yue Wu et al., "Self-Play Preference Optimization for Language Model Alignment", 2024, arXiv 2405.00675.
#
# The log-ratios are regressed to plus and minus half of the inverse temperature.
#
#     L = mean over pairs of (a - 1 / (2 beta))^2 + (z + 1 / (2 beta))^2
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

pair_loss = (chosen - 1 / (2 * beta)) ^ 2 + (rejected + 1 / (2 * beta)) ^ 2
