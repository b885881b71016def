# M2PO: Second-Moment Trust Policy Optimization.
# Haizhong Zheng et al., "Prosperity before Collapse: How Far Can Off-Policy RL Reach with Stale Data on
# LLMs?", 2025, arXiv 2510.01161.
#
# The tokens furthest from the sampler are masked until the second moment of the log-ratio of the others is
# small enough.
#
#     x_t = (sampler_logp_t - prox_logp_t)^2, sorted from the largest
#     keep_t: the longest tail whose mean is below tau, at least one token
#     L   = sum_t -keep_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / N          r_t = exp(logp_t - prox_logp_t)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: as in AReaL the second moment is of the sampler against the proximal policy, over all tokens of the
# batch. N counts masked tokens too, as with AReaL's other filters; under this one AReaL itself divides by
# the kept ones of a micro-batch (`count_kept = true`: of the batch). `weighted = true` multiplies by
# decoupled_ppo's u_t, as AReaL does where a rejection is set too. Without `prox_logp` as a policy of its own,
# give `old_logp` there.
# To train: log-probabilities of the proximal policy, `token/prox_logp`, and of the sampler,
# `token/sampler_logp`.

extend bnpo

## Log-probability of the token under the proximal policy, in nats.
input prox_logp : real @ token

## Largest mean squared log-ratio of the kept tokens. Nats squared; 0.04 (the paper).
param tau = 0.04 in [0, inf]
## Whether only kept tokens are counted in the denominator. Off (AReaL: on).
param count_kept = false
## Whether a token is weighed by exp(prox_logp - sampler_logp). Off.
param weighted = false

ratio     = exp(logp - prox_logp)
gap       = (sampler_logp - prox_logp) ^ 2
rising    = sort(gap in batch)
place     = index(token in batch)
## How many tokens are kept: the longest head of the rising order whose mean is below tau.
amount    = max(count(cumsum(rising in batch) / (place + 1) < tau), 1)
kept      = rank(gap in batch) < amount
u         = if weighted then exp(prox_logp - sampler_logp) else 1
surrogate = if kept then u * base.surrogate else 0
loss      = if count_kept then base.loss * count(token) / amount else base.loss

## Share of the tokens that are masked.
metric masked_fraction = mean(not kept)
## KL(proximal policy || current policy) per token, estimated by k1, in nats.
metric approx_kl       = token_mean(prox_logp - logp)
