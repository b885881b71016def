# f-DPO: DPO under other divergences.
# Chaoqi Wang et al., "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse
# Divergence Constraints", 2023, arXiv 2309.16240.
#
# The reward that belongs to a divergence is its derivative at the ratio; reverse KL gives DPO.
#
#     s(x) = x | -exp(-x) | log sigmoid(x) | exp((alpha - 1) x) / (alpha - 1)          x = a or z
#            reverse KL | forward KL | Jensen-Shannon | alpha divergence
#     L    = mean over pairs of -log sigmoid(beta (s(a) - s(z)))
#
# Family: preferences.
# Confidence: exact from code.
# Choices: one file with a switch, as in TRL (f_divergence_type), which limits the exponent of the alpha
# form to 80; here it is not limited.

extend dpo

## Which divergence: 0 reverse KL, 1 forward KL, 2 Jensen-Shannon, 3 alpha. 1 (TRL: reverse KL).
param divergence = 1 in [0, 3]
## Order of the alpha divergence; not 1. No unit; 0.5 (TRL, f_alpha_divergence_coef).
param alpha = 0.5

log_ratio = sum(token_score per rollout)
score     = if divergence == 0 then log_ratio
            else if divergence == 1 then -exp(-log_ratio)
            else if divergence == 2 then log_sigmoid(log_ratio)
            else exp((alpha - 1) * log_ratio) / (alpha - 1)
