# BCO: Binary Classifier Optimization, on pairs.
# Seungjae Jung et al., "Binary Classifier Optimization for Large Language Model Alignment", 2024, arXiv
# 2404.04656.
#
# A classifier whose logit is the reward: chosen above a shift, rejected below it.
#
#     L = mean over pairs of -log sigmoid(beta a - d) - log sigmoid(-(beta z - d))
#
# Family: preferences.
# Confidence: exact from code.
# Choices: d is a running mean of all rewards in the paper; it is 0 in TRL's DPOTrainer and here by default,
# and a param.

extend dpo

## The shift d of the reward. In units of beta times nats; 0.0 (TRL, DPOTrainer).
param shift = 0.0

pair_loss = -log_sigmoid(beta * chosen - shift) - log_sigmoid(shift - beta * rejected)
