# KL-Cov.
# Ganqu Cui et al., "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models", 2025,
# arXiv 2505.22617.
#
# The tokens whose log-probability and advantage vary together most pay for moving; nothing is clipped.
#
#     cov_t = sg[(A_t - mean_B A) (logp_t - mean_B logp)]          K: the max(1, floor(share * N)) largest
#     L     = sum_t (-A_t r_t + [t in K] c |logp_t - old_logp_t|) / N
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: means and the number of tokens are those of the whole batch; verl takes the micro-batch's. The
# coefficient is that of verl's config, 0.1; its code falls back to 1.

extend bnpo

## Share of the batch's tokens that pay. No unit; 0.0002 (verl, kl_cov_ratio).
param kl_cov_ratio = 0.0002 in [0, 1]
## The price of a moved token. Loss per nat; 0.1 (verl's config, ppo_kl_coef; its code: 1).
param ppo_kl_coef = 0.1 in [0, inf]

fixed     = detach(logp)
## Covariance of a token's log-probability and advantage.
cov       = (advantage - mean(advantage @ token)) * (fixed - mean(fixed))
paying    = top(cov, max(floor(kl_cov_ratio * count(token)), 1) in batch)
surrogate = ratio * advantage
penalty   = base.penalty + (if paying then ppo_kl_coef * abs(logp - old_logp) else 0)

## Share of the tokens that pay.
metric paying_fraction = mean(paying)
## Share of the tokens whose gradient a clip takes away: there is no clip.
metric clip_fraction = 0
