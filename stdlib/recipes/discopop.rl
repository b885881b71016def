# DiscoPOP: Discovered Preference Optimization.
# Chris Lu et al., "Discovering Preference Optimization Algorithms with and for Large Language Models",
# 2024, arXiv 2406.08414.
#
# A blend of the logistic and the exponential loss, found by a language model's search.
#
#     g = sigmoid(beta D / tau)
#     L = mean over pairs of (1 - g) (-log sigmoid(beta D)) + g exp(-beta D)
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

## Temperature of the blend. No unit; 0.05 (the paper; TRL, discopop_tau).
param tau = 0.05 in [0, inf]

gate      = sigmoid(beta * margin / tau)
pair_loss = -(1 - gate) * log_sigmoid(beta * margin) + gate * exp(-beta * margin)
