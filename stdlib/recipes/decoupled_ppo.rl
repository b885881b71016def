# Decoupled PPO.
# Jacob Hilton et al., "Batch size-invariance for policy optimization", 2021, arXiv 2110.00641; Wei Fu et
# al., "AReaL: A Large-Scale Asynchronous Reinforcement Learning System for Language Reasoning", 2025,
# arXiv 2505.24298.
#
# The clip is around a proximal policy, recent and known exactly, and the stale sampler's probabilities are only
# an importance weight.
#
#     r_t = exp(logp_t - prox_logp_t)          u_t = exp(prox_logp_t - sampler_logp_t), 0 where out of bounds
#     L   = sum_t -u_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / N
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: N counts the tokens before the weights' filter, as in AReaL. Weights above the cap are masked (its
# action "mask"); `truncate = true` cuts them instead ("clamp").
# To train: log-probabilities of the proximal policy, `token/prox_logp`, and of the sampler,
# `token/sampler_logp`.

extend bnpo

## Log-probability of the token under the proximal policy, in nats.
input prox_logp : real @ token

## Largest weight. A ratio, no unit; 5.0 (AReaL, behave_imp_weight_cap).
param is_cap = 5.0 in [0, inf]
## Whether larger weights are cut instead of masked. Off.
param truncate = false

anchor         = prox_logp
ratio          = exp(logp - anchor)
## The proximal policy's probability over the sampler's.
mismatch       = exp(anchor - sampler_logp)
## Weight of a token's loss. No unit.
sampler_weight = if truncate then min(mismatch, is_cap) else if mismatch > is_cap then 0 else mismatch
surrogate      = sampler_weight * base.surrogate

## Share of the tokens whose weight is above the cap.
metric cut_fraction = mean(mismatch > is_cap)
## KL(proximal policy || current policy) per token, estimated by k1, in nats.
metric approx_kl    = token_mean(anchor - logp)
