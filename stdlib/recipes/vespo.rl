# VESPO: Variational Sequence-Level Soft Policy Optimization.
# TRL, GRPOTrainer with loss_type "vespo"; arXiv 2602.10693.
#
# The rollout's whole ratio weighs its gradient through a soft curve that is 1 on-policy and falls on both
# sides.
#
#     log w = clip(sum_t clip(d_t, -20, 20), log 1e-8, 20)          d_t = logp_t - old_logp_t
#     phi   = exp(lambda + k log w - lambda w)          (k, lambda) = (2, 3) where A >= 0, else (3, 2)
#     L     = sum_t -sg[phi_i] A_i logp_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: `sampler_correction = true` adds the clamped log-ratios of the trainer's old policy to the sampler,
# as TRL does with vLLM and token_truncate, here without its cap of 3
# and over kept tokens alone (TRL adds up masked ones too).

extend bnpo

## Power k where the advantage is not negative. No unit; 2.0 (TRL).
param k_pos = 2.0 in [0, inf]
## Decay lambda where the advantage is not negative. No unit; 3.0 (TRL).
param lambda_pos = 3.0 in [0, inf]
## Power k of negative advantages. No unit; 3.0 (TRL).
param k_neg = 3.0 in [0, inf]
## Decay lambda of negative advantages. No unit; 2.0 (TRL).
param lambda_neg = 2.0 in [0, inf]
## Whether the sampler's mismatch is part of the ratio. Off.
param sampler_correction = false

mismatch  = if not sampler_correction then 0
            else sum(clip(old_logp - sampler_logp, log(1e-8), 20) per rollout)
drift     = sum(clip(logp - old_logp, -20, 20) per rollout)
log_ratio = clip(drift + mismatch, log(1e-8), 20)
## The rollout's ratio: the product of its tokens' ratios.
ratio     = exp(log_ratio)
k         = if advantage >= 0 then k_pos else k_neg
decay     = if advantage >= 0 then lambda_pos else lambda_neg
## Weight of a rollout's gradient, 1 on-policy. No unit.
phi       = detach(exp(decay + k * log_ratio - decay * ratio))
surrogate = phi * advantage * logp

## Mean weight of the rollouts' gradients.
metric mean_phi      = mean(phi)
## How much of the rollouts' gradient the curve takes away; negative where it adds.
metric clip_fraction = mean(1 - phi)
