# AlphaPO: reward shape for preference optimisation.
# "AlphaPO: Reward Shape Matters for LLM Alignment", 2025, arXiv 2501.03884.
#
# SimPO with a reward that is a power of the likelihood instead of its logarithm.
#
#     p = exp(mean_t logp_t)          s = (1 - p^-alpha) / alpha
#     L = mean over pairs of -log sigmoid(beta (s_c - s_r) - gamma)
#
# Family: preferences.
# Confidence: exact from code.
# Choices: TRL turns it on with alpha other than 0 and has no default of its own; 0.25 here, the paper's
# value for one of its models. alpha towards 0 gives SimPO.

extend simpo

## Shape alpha of the reward; not 0. No unit; 0.25.
param alpha = 0.25 in [0, inf]

score = -expm1(-alpha * mean(logp per rollout)) / alpha
