# MIS: Masked Importance Sampling of whole rollouts.
# TRL, vllm_importance_sampling_mode "sequence_mask".
#
# A rollout that the sampler and the trainer see differently is left out; the others are weighed by the ratio
# of their probabilities.
#
#     x_i = exp(sum_t (old_logp_t - sampler_logp_t))          u_i = x_i where lo <= x_i <= hi, else 0
#     L   = mean_i mean_t [ beta k3_t - u_i min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ]
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: TRL's default correction. The loss around it is grpo's; the KL term is not weighed.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend grpo

## Largest ratio that is kept. No unit; 3.0 (TRL, vllm_importance_sampling_clip_max).
param is_cap = 3.0 in [0, inf]
## Smallest ratio that is kept. No unit; 0.0 (TRL, vllm_importance_sampling_clip_min: none).
param is_floor = 0.0 in [0, inf]

## The trainer's probability of the rollout over the sampler's.
mismatch       = exp(sum(old_logp - sampler_logp per rollout))
## Weight of a rollout's loss. No unit.
sampler_weight = if mismatch >= is_floor and mismatch <= is_cap then mismatch else 0
surrogate      = sampler_weight * base.surrogate

## Share of the rollouts that are left out.
metric masked_fraction = mean(sampler_weight == 0)
