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
#     out of bounds: not floor <= M <= cap          M = u_t, or another measure of a token or a rollout
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: as in AReaL (rejection_sampling), whose N counts the tokens before the filter. Its action "mask" is
# the default, "clamp" `truncate = true`; its metric and, for whole rollouts, its agg are `estimator` and
# `aggregation`. A rollout's ratio is aggregated in log space, and whatever the aggregation weighs the
# rollout by its geometric mean; with k1 to k3 weights stay the tokens'. Without a filter: is_cap = inf. The
# advantage is grpo's; AReaL's trainer also clips the reward at 20 and pays a KL of 0.1 in it.
# To train: log-probabilities of the proximal policy, `token/prox_logp`, and of the sampler,
# `token/sampler_logp`.

extend bnpo

## Log-probability of the token under the proximal policy, in nats.
input prox_logp : real @ token

## Largest measure. A ratio, no unit, or nats; 5.0 (AReaL, upper).
param is_cap = 5.0 in [0, inf]
## Smallest measure. A ratio, no unit, or nats; -inf, which is off (AReaL, lower).
param is_floor = -inf
## Whether weights out of bounds are cut to them instead of masked. Off (AReaL, action: mask).
param truncate = false
## What is held to the bounds: 0 the ratio u, or its divergence k1, k2 or k3. 0 (AReaL, metric: ratio).
param estimator = 0 in [0, 3]
## Whose measure: 0 each token's, 1 its mean over a rollout, 2 the sum, 3 the largest. 0 (AReaL, level: token).
param aggregation = 0 in [0, 3]

anchor   = prox_logp
gap      = anchor - sampler_logp
ratio    = exp(logp - anchor)
## The proximal policy's probability over the sampler's (of a rollout: per token).
mismatch = if estimator == 0 and aggregation > 0 then exp(mean(gap per rollout)) @ token else exp(gap)
measure =
  one = if estimator == 0 or estimator == 1 then gap
        else if estimator == 2 then gap ^ 2 / 2
        else expm1(-gap) + gap
  all = if aggregation == 0 then one
        else if aggregation == 1 then mean(one per rollout) @ token
        else if aggregation == 2 then sum(one per rollout) @ token
        else max(one per rollout) @ token
  if estimator == 0 then exp(all) else all
inside         = measure >= is_floor and measure <= is_cap
## Weight of a token's loss. No unit.
sampler_weight = if inside and (not truncate or aggregation > 0) then mismatch
                 else if truncate then clip(mismatch, is_floor, is_cap)
                 else 0
surrogate      = sampler_weight * base.surrogate

## Share of the tokens whose measure is out of bounds.
metric cut_fraction = mean(not inside)
## KL(proximal policy || current policy) per token, estimated by k1, in nats.
metric approx_kl    = token_mean(anchor - logp)
