# High-entropy tokens only.
# Shenzhi Wang et al., "Beyond the 80/20 Rule: High-Entropy Minority Tokens Drive Effective Reinforcement
# Learning for LLM Reasoning", 2025, arXiv 2506.01939; TRL, top_entropy_quantile.
#
# Only the tokens at which the policy is least sure, the forks, get a policy gradient.
#
#     keep_t = H_t >= quantile_B(H, 1 - rho)
#     L      = sum_t -keep_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (number of tokens in the batch)
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: clip and mean of dapo, as in the paper; the denominator counts all tokens, as in TRL. TRL takes
# the quantile per micro-batch over all workers, here it is over the whole batch.

extend dapo

## Share rho of the tokens that are trained on. No unit; 0.2 (the paper; TRL, top_entropy_quantile: 1).
param top_entropy_quantile = 0.2 in [0, 1]

threshold = quantile(detach(entropy), 1 - top_entropy_quantile)
forking   = detach(entropy) >= threshold
surrogate = if forking then base.surrogate else 0

## Share of the tokens that are trained on.
metric forking_fraction = mean(forking)
