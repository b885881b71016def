# TempFlow-GRPO: temporally aware GRPO for flow models.
# Xiaoxuan He et al., "TempFlow-GRPO: When Timing Matters for GRPO in Flow Models", 2025, arXiv
# 2508.04324.
#
# Branching at one denoising step at a time gives every step a reward of its own, and steps weigh as
# much as the noise that they can inject.
#
#     A_ij = clip((r_ij - mean) / (std + 1e-4), -5, 5)
#     over the rollouts of a prompt at step j
#     w_j  = 2.25 s_j        s_j = sigma_t sqrt(-dt_j)
#     l_ij = -w_j min(r A, clip(r, 1 - c, 1 + c) A) + beta |mu - mu_ref|^2 / (2 s_j^2)
#     L    = mean_j mean_i l_ij
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: A token is a denoising step, its number `position`. std divides by n. A step without
# noise (s_j = 0) has neither weight nor KL. Rollouts whose advantage is 0 at every step are left
# out of the loss and of its denominator; they stay in the statistics. global_std = true divides by
# the std of the whole batch at that step, as the code's option does.
# To train: a flow policy whose steps are tokens: `token/logp` (mean over latent dims of the
# Gaussian's log density), `token/token_reward` (the reward of the branch begun at that step),
# `token/s_j`, and the differentiable `token/mean_diff_sq`; the last step is not trained (its mask
# is false).

extend grpo

## How far the ratio may fall below 1. No unit; 1e-4 (the code).
param clip_low  = 1e-4 in [0, 1]
## How far the ratio may rise above 1. No unit; 1e-4 (the code).
param clip_high = 1e-4 in [0, inf]
## Largest size of an advantage. In standard deviations; 5 (the code).
param max_advantage = 5.0 in [0, inf]
## Weight of the KL to the reference. Loss per nat; 0.004 (the code; 0.001 for PickScore).
param beta = 0.004 in [0, inf]
## Weight of a step per unit of its noise: 1 on average for ten steps. No unit; 2.25 (the code).
param noise_scale = 2.25 in [0, inf]
## Whether advantages are divided by the batch's std at a step. Off (the code).
param global_std = false

## Std of the noise that step j injects. In the latent's unit.
input s_j : real @ token
## Mean over latent dims of (mu - mu_ref)^2, the policy's mean of the step against the reference's.
policy mean_diff_sq : real @ token

key cell  = (group, position)
key stage = (batch, position)

gap    = token_reward - mean(token_reward per cell)
spread = if global_std then std(token_reward, ddof = 0 per stage) @ token
         else std(token_reward, ddof = 0 per cell) @ token
## Credit of a step, in standard deviations of its prompt's rewards at that step.
advantage = clip(gap / (spread + 1e-4), -max_advantage, max_advantage)
## Whether a rollout says anything.
trained   = any(advantage != 0 per rollout)

surrogate = noise_scale * s_j * clipped(ratio, advantage, clip_low, clip_high)
penalty   = if beta == 0 then 0 else if s_j > 0 then beta * mean_diff_sq / (2 * s_j ^ 2) else 0
# Steps weigh alike, whatever the number of rollouts that have them.
loss      = mean(mean(token_loss where trained @ token per stage))

## Share of the rollouts that say anything.
metric trained_share = mean(trained)
