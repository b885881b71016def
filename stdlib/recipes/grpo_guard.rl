# GRPO-Guard: ratio normalisation for flow matching.
# "GRPO-Guard: Mitigating Implicit Over-Optimization in Flow Matching via Regulated Clipping", 2025,
# arXiv 2510.22319.
#
# The log-ratio of a denoising step has a negative mean and a spread that differs from step to step, so
# that the clip seldom binds; recentred and rescaled, every step is clipped alike.
#
#     e_s = sqrt(dt_s) sigma_s           bias_s = mean (mu - mu_old)^2 / (2 (e_s^2 + 1e-6))
#     r_s = exp((logp_s - old_logp_s + bias_s) e_s)
#     L   = mean_s -min(r_s A_i, clip(r_s, 1 - eps, 1 + eps) A_i) delta_s      delta_s = 1 / (dt_s + dt_eps)
#
# A row of the token level is one denoising step of one sample.
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: read in two ports, not in the authors' repository. The advantage is GRPO's (group, sample std,
# eps 1e-4); over the batch it is `advantage = (reward - mean(reward)) / (std(reward) + 1e-4)`.
# `dance = true` takes DanceGRPO's delta, beta_s / (dt_s + dt_eps) with
# beta_s = 1 + eta^2 (1 - time_s) / (2 time_s). The ports do not agree on dt_eps (one has none): 1e-6 here,
# as under the bias.
# To train: a diffusion sampler that records `token/sigma`, `token/dt`, `token/time`, the step's mean
# Gaussian log-probs as `token/logp` and `token/old_logp`, and `token/mean_diff_sq` with its gradient.

extend bnpo

## How far the normalised ratio may fall below 1. No unit; 2e-6 (the paper: r is squeezed close to 1).
param clip_low  = 2e-6
## How far the normalised ratio may rise above 1. No unit; 2e-6.
param clip_high = 2e-6
## Whether steps are weighted as in DanceGRPO. false (Flow-GRPO).
param dance     = false
## Noise level of DanceGRPO's SDE. No unit; 0.3 (DanceGRPO).
param eta       = 0.3
## Added to the length of a step before it divides. In the unit of dt; 1e-6 (ours).
param dt_eps    = 1e-6 in [0, inf]

## Squared distance of the step's mean from the sampling policy's, averaged over channels and space.
policy mean_diff_sq : real @ token
## Diffusion coefficient of the SDE at the step.
input sigma : real @ token
## Length of the step in time, taken positive.
input dt : real @ token
## Time of the step, in (0, 1]; read by DanceGRPO's weights alone.
input time : real @ token

## Standard deviation of the SDE's step.
step_std = sqrt(dt) * sigma
## What brings the mean of the log-ratio to 0.
bias = mean_diff_sq / (2 * (step_std ^ 2 + 1e-6))
ratio = exp((logp - old_logp + bias) * step_std)
## Weight of a step.
delta = (if dance then 1 + eta ^ 2 * (1 - time) / (2 * time) else 1) / (dt + dt_eps)
surrogate = base.surrogate * delta

## Mean of the normalised log-ratio: near 0 when the recentring works.
metric log_ratio = token_mean((logp - old_logp + bias) * step_std)
