# CISPO: Clipped IS-weight Policy Optimization.
# MiniMax, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention", 2025,
# arXiv 2506.13585.
#
# The weight of a token is clipped, not its update: every token keeps a gradient.
#
#     L = sum_t -sg[min(r_t, ratio_max)] A_i logp_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: As in TRL: the bound is absolute and there is no lower one. (verl: 1 - low .. 1 + high.)

extend bnpo

## The largest importance weight. A ratio, no unit; 5.0 (TRL's epsilon_high for this loss; MiniMax).
param ratio_max = 5.0

surrogate = detach(min(ratio, ratio_max)) * advantage * logp

## Share of the tokens whose weight is cut.
metric clip_fraction = token_mean(ratio > ratio_max)
