# GRPO: Group Relative Policy Optimization.
# Zhihong Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language
# Models", 2024, arXiv 2402.03300.
#
# The mean reward of the rollouts of one prompt replaces the value function of PPO.
#
#     A_i = (R_i - mean_G R) / (std_G R + eps)      r_t = exp(logp_t - old_logp_t)
#     L   = mean_i mean_t [ beta k3_t - min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ]
#
# Family: baseline.
# Confidence: exact from code.
# Choices: As in TRL (loss_type "grpo"): sample std, eps 1e-4, no clamp on the log-ratio.

extend nothing

## How far the ratio may fall below 1 before a negative advantage stops pushing. No unit; 0.2 (PPO;
## TRL, epsilon).
param clip_low  = 0.2
## How far the ratio may rise above 1 before a positive advantage stops pushing. No unit; 0.2 (PPO;
## TRL, epsilon).
param clip_high = 0.2
## Weight of the KL penalty to the reference policy. Loss per nat; 0.0 (TRL; the paper has 0.04).
## At 0 no reference model is needed.
param beta      = 0.0

## The tokens that are trained on and counted: those the policy wrote.
loss_mask = mask
keep token where loss_mask

## Credit of a token, in standard deviations of the group's rewards.
advantage  = group_norm(reward)
## Probability of the token under the current policy over that under the one that sampled it.
ratio      = exp(logp - old_logp)
## What the policy gradient maximises.
surrogate  = clipped(ratio, advantage, clip_low, clip_high)
## What is paid for leaving the reference policy.
penalty    = if beta == 0 then 0 else beta * kl_k3(logp, ref_logp)
token_loss = penalty - surrogate
loss       = seq_mean(token_loss)

minimize loss

## Share of the tokens whose gradient the clip takes away.
metric clip_fraction = token_mean(is_clipped(ratio, advantage, clip_low, clip_high))
## KL(sampling policy || current policy) per token, estimated by k1, in nats.
metric approx_kl     = token_mean(old_logp - logp)
