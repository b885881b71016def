# Off-policy sequence masking.
# DeepSeek-AI, "DeepSeek-V3.2: Pushing the Frontier of Open Large Language Models", 2025, arXiv
# 2512.02556; TRL, off_policy_mask_threshold.
#
# Rollouts with a negative advantage that the policy has moved far away from teach nothing.
#
#     keep_i = A_i >= 0 or mean_t (sampler_logp_t - logp_t) <= threshold
#     L      = mean_i mean_t [ beta k3_t - keep_i min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ]
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: the threshold has no default in TRL; 0.5 here. The KL term and the denominators do not see the
# mask, as in TRL.

extend grpo

## Largest mean log-ratio of the sampler to the policy. Nats per token; 0.5.
param off_policy_threshold = 0.5 in [0, inf]

## KL(sampler || policy) of a rollout, estimated by k1, in nats per token.
drift     = mean(sampler_logp - detach(logp) per rollout)
kept      = advantage >= 0 or drift <= off_policy_threshold
surrogate = if kept then base.surrogate else 0

## Share of the rollouts that are masked.
metric masked_fraction = mean(not kept)
