# Sequence-masked TIS.
# OpenRLHF, seq-mask-tis; NeMo-RL.
#
# Whole rollouts are left out by the geometric mean of their tokens' ratios, and each remaining token is
# weighed by its own.
#
#     u_t = [lo <= exp(mean_t gap_t) <= hi] exp(gap_t)          gap_t = old_logp_t - sampler_logp_t
#     L   = sum_t [ beta k3_t - u_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / N
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: the weight of a token is not cut, as in OpenRLHF and NeMo-RL.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend bnpo

## Largest geometric mean that is kept. A ratio, no unit; 5.0 (OpenRLHF).
param is_cap = 5.0 in [0, inf]
## Smallest geometric mean that is kept. A ratio, no unit; 0.5 (OpenRLHF).
param is_floor = 0.5 in [0, inf]

gap            = old_logp - sampler_logp
## The rollout's mismatch per token.
mismatch       = exp(mean(gap per rollout))
inside         = mismatch >= is_floor and mismatch <= is_cap
## Weight of a token's loss. No unit.
sampler_weight = if inside then exp(gap) else 0
surrogate      = sampler_weight * base.surrogate

## Share of the rollouts that are left out.
metric masked_fraction = mean(not inside)
