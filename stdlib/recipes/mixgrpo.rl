# MixGRPO: GRPO with mixed ODE and SDE sampling.
# Junzhe Li et al., "MixGRPO: Unlocking Flow-based GRPO Efficiency with Mixed ODE-SDE", 2025, arXiv
# 2507.21802.
#
# Only the denoising steps inside a window are sampled with noise and trained, and the window slides
# from the first steps to the last during training.
#
#     window  = {s .. min(s + W, T_max) - 1}        s <- s + stride every I iterations, 0 past T_max
#     A_i     = clip(sum_m w_m (R_im - mean_G R_m) / (std_G R_m + 1e-8), -5, 5)
#     l_ij    = -min(r_ij A_i, clip(r_ij, 1 - c, 1 + c) A_i) + beta k2(logp, old_logp)
#     L       = mean_i mean_{j in window} l_ij
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: A token is a denoising step, its number `position`. The KL is to the sampling policy, as
# in the code. Four rewards (HPS, CLIP, ImageReward, PickScore): one of weight 0 needs no column.
# reward_aggr = true adds the weighted rewards up before normalising. At s = T_max the window is
# empty and the loss 0. The code's other windows are not here: how its intervals shrink was not
# found; a random start is one line in a file of your own, `update window_start =
# floor(uniform(batch) * (t_max - window + 1))`.
# To train: a flow policy whose steps are tokens, sampled with noise inside the window only;
# `rollout/rewards.1` to `rollout/rewards.4`.

extend grpo

## How far the ratio may fall below 1. No unit; 1e-4 (the code).
param clip_low  = 1e-4 in [0, 1]
## How far the ratio may rise above 1. No unit; 1e-4 (the code).
param clip_high = 1e-4 in [0, inf]
## Largest size of an advantage. In standard deviations; 5 (the code).
param max_advantage = 5.0 in [0, inf]
## Weight of the KL to the policy that sampled. Loss per nat; 0 (the code).
param beta = 0.0 in [0, inf]
## Weight of each reward's advantage. No unit; 1 (the code).
param weights[4] = 1.0 in [0, inf]
## Whether rewards are added up before they are normalised. Off (the code's "advantage_aggr").
param reward_aggr = false
## Share of a group's lowest rewards that its mean and std leave out. No unit; 0 (the code).
param trim = 0.0 in [0, 1]
## Width of the window (W). Denoising steps; 4 (the code).
param window = 4 in [1, inf]
## How far the window moves at a time. Denoising steps; 1 (the code).
param stride = 1 in [1, inf]
## Iterations between moves (I). Optimiser iterations; 25 (the code).
param interval = 25 in [1, inf]
## Last start of a window (T - 2 of T = 25 steps). Denoising steps; 23 (the code).
param t_max = 23 in [0, inf]

## The rewards of a rollout.
input rewards[4] : real @ rollout
## First step of the window.
state window_start = 0.0
## Number of iterations done.
state iterations   = 0.0
moves = (iterations + 1) % interval == 0
moved = if window_start + stride > t_max then 0 else window_start + stride
update iterations   = iterations + 1
update window_start = if moves then moved else window_start

in_window = position >= window_start and position < min(window_start + window, t_max)
loss_mask = base.loss_mask and in_window

## In standard deviations of the group; its lowest rewards may be left out of the statistics.
fn trimmed_norm(x) =
  counted = rank(x in group) >= floor(trim * count(x per group))
  (x - mean(x where counted per group)) / (std(x where counted per group) + 1e-8)
fn weighted(k, normal) =
  if weights[k] == 0 then 0
    else weights[k] * (if normal then trimmed_norm(rewards[k]) else rewards[k])

## Credit of a rollout, in standard deviations of the group's rewards.
combined  = if reward_aggr then trimmed_norm(sum(weighted(k, false) for k in 1..4))
            else sum(weighted(k, true) for k in 1..4)
advantage = clip(combined, -max_advantage, max_advantage)
penalty   = if beta == 0 then 0 else beta * kl_k2(logp, old_logp)

## First denoising step that is trained now.
metric window_start = window_start
