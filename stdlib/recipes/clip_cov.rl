# Clip-Cov.
# Ganqu Cui et al., "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models", 2025,
# arXiv 2505.22617.
#
# Tokens whose log-probability and advantage vary together most make the entropy collapse: a few of them,
# drawn at random, teach nothing.
#
#     cov_t = sg[(A_t - mean_B A) (logp_t - mean_B logp)]
#     C     = {t : lb < cov_t < ub, not clipped}          k = max(1, floor(share * N)) of C drawn at random
#     L     = sum_{t not drawn} -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / N
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: means and k are those of the whole batch; verl takes the micro-batch's. The draw is by
# `uniform(token)`. No dual clip, as in verl.
# To train: an int `batch/seed`, which decides the draw.

extend bnpo

## Share of the batch's tokens that may be drawn. No unit; 0.0002 (verl, clip_cov_ratio).
param clip_cov_ratio = 0.0002 in [0, 1]
## Smallest covariance of a candidate. Nats times the unit of the advantage; 1.0 (verl, clip_cov_lb).
param clip_cov_lb = 1.0
## Largest covariance of a candidate. Nats times the unit of the advantage; 5.0 (verl, clip_cov_ub).
param clip_cov_ub = 5.0

fixed     = detach(logp)
## Covariance of a token's log-probability and advantage.
cov       = (advantage - mean(advantage @ token)) * (fixed - mean(fixed))
candidate = cov > clip_cov_lb and cov < clip_cov_ub and not is_clipped(ratio, advantage, clip_low, clip_high)
amount    = max(floor(clip_cov_ratio * count(token)), 1)
drawn     = candidate and top(if candidate then uniform(token) else -1, amount in batch)
surrogate = if drawn then 0 else base.surrogate

## Share of the tokens that were drawn.
metric drawn_fraction = mean(drawn)
