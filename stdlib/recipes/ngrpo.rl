# NGRPO: Negative-enhanced Group Relative Policy Optimization.
# Gongrui Nan et al., "NGRPO: Negative-enhanced Group Relative Policy Optimization", 2025, arXiv
# 2509.18851.
#
# A virtual rollout of the highest reward joins each group's statistics, so that a group that is all
# wrong is pushed away from what it did.
#
#     mu, sd = mean, std of {R_1 .. R_G} and v copies of r_max        A_i = (R_i - mu) / (sd + 1e-6)
#     L      = sum_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: Groups that are all right are dropped, as in the code; their advantages would be 0, but
# their tokens would count in the denominator (drop_solved = false).

extend bnpo

## How far the ratio may fall below 1. No unit; 0.16 (the code).
param clip_low  = 0.16 in [0, 1]
## How far the ratio may rise above 1. No unit; 0.24 (the code).
param clip_high = 0.24 in [0, inf]
## Reward of a virtual rollout: the highest there is. In the unit of the reward; 1 (the code).
param r_max = 1.0
## Number of virtual rollouts (v). Rollouts; 1 (the code).
param virtual = 1.0 in [0, inf]
## Whether groups whose rollouts all have r_max are dropped. On (the code).
param drop_solved = true

drop group where drop_solved and all(reward >= r_max per group)

size   = count(reward per group) + virtual
centre = (sum(reward per group) + virtual * r_max) / size
square = sum((reward - centre) ^ 2 per group) + virtual * (r_max - centre) ^ 2
## Std of the group with its virtual rollouts (ddof = 1), in the unit of the reward.
spread = if size > 1 then sqrt(square / (size - 1)) else 0
## Credit of a rollout, in standard deviations of the enlarged group.
advantage = (reward - centre) / (spread + 1e-6)

## Share of the groups in which every rollout got the same reward.
metric uniform_groups = mean(max(reward per group) == min(reward per group))
