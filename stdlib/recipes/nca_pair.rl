# NCA: Noise Contrastive Alignment, on pairs.
# Huayu Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards", 2024, arXiv
# 2402.05369.
#
# Each rollout is told from noise by itself, so that the chosen one's likelihood cannot fall.
#
#     L = mean over pairs of -log sigmoid(beta a) - log sigmoid(-beta a) / 2 - log sigmoid(-beta z) / 2
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

## How much a log-ratio is worth. Per nat; 0.1 (TRL, beta; its advice for this loss is 0.01).
param beta = 0.1 in [0, inf]

pair_loss = -log_sigmoid(beta * chosen) - log_sigmoid(-beta * chosen) / 2 - log_sigmoid(-beta * rejected) / 2
