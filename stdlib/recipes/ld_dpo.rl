# LD-DPO: Length-Desensitized DPO.
# "Length Desensitization in Directed Preference Optimization", 2024, arXiv 2409.06411.
#
# Tokens beyond the shorter rollout's length count less, so that length says less about preference.
#
#     l = the smaller number of tokens of the pair
#     a, z = sum_{t < l} x_t + alpha sum_{t >= l} x_t          x_t = logp_t - ref_logp_t
#     L = mean over pairs of -log sigmoid(beta (a - z))
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

## Weight of the tokens beyond the shared length. No unit; 0.5 (TRL has no default: off is 1).
param ld_alpha = 0.5 in [0, 1]

size   = count(token per rollout)
shared = min(min(size, default = inf where is_chosen per pair), min(size, default = inf where not is_chosen per pair))
score  = sum(token_score * (if index(token in rollout) < shared then 1 else ld_alpha) per rollout)
