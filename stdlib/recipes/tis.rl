# TIS: Truncated Importance Sampling of the sampler's mismatch.
# Feng Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training", 2025; verl,
# rollout_is.
#
# The engine that sampled and the one that trains disagree about a token's probability: their ratio, cut from
# above, weighs the token's loss.
#
#     u_t = min(exp(old_logp_t - sampler_logp_t), cap)
#     L   = sum_t [ beta k3_t - u_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / N
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: one weight per token; `sequence = true` takes the product over the rollout (verl's rollout_is
# "sequence", TRL's sequence_truncate), and `mismatch = exp(mean(gap per rollout))` in your file the geometric
# mean. verl bounds the log of a weight at 20 on both sides, TRL does not. The
# KL term is not weighed, as in TRL.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend bnpo

## Largest weight. A ratio, no unit; 2.0 (verl, rollout_is_threshold; TRL: 3.0; OpenRLHF: 5.0).
param is_cap = 2.0 in [0, inf]
## Smallest weight. A ratio, no unit; 0.0 (verl, TRL; OpenRLHF: 0.5).
param is_floor = 0.0 in [0, inf]
## Whether a rollout has one weight, the product of its tokens'. Off.
param sequence = false
## Whether weights are divided by their mean over the batch's tokens (with `sequence`: rollouts). Off (verl,
## rollout_is_batch_normalize).
param normalize = false

gap            = old_logp - sampler_logp
## The trainer's probability over the sampler's.
mismatch       = exp(if sequence then sum(gap per rollout) @ token else gap)
cut            = clip(mismatch, is_floor, is_cap)
average        = if sequence then mean(mean(cut per rollout) where count(token per rollout) > 0) else mean(cut)
## Weight of a token's loss. No unit.
sampler_weight = if normalize and average > 1e-8 then cut / average else cut
surrogate      = sampler_weight * base.surrogate

## Share of the tokens whose weight is cut.
metric cut_fraction = token_mean(mismatch > is_cap or mismatch < is_floor)
