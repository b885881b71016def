# E-GRPO: Entity-aware Group Relative Policy Optimization.
# Yida Zhao et al., "Repurposing Synthetic Data for Fine-grained Search Agent Supervision", 2025,
# arXiv 2510.24694.
#
# A wrong rollout earns something for the question's entities that it found, measured by the best of its
# group, so that near misses differ from failures.
#
#     R_i = 1 if correct;  alpha gamma_i / max_G gamma if wrong;  0 if in error
#     A_i = (R_i - mean_G R) / std_G R
#     L   = mean_i mean_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)          i: not over-length
#
# Family: reward.
# Confidence: exact from paper.
# Choices: An error outweighs a correct answer. Over-length rollouts count in the group's mean and deviation
# and leave the loss, numerator and count alike; with `count_overlong` they stay in the count, as in a loss mask.
# The clip is not given; DAPO's 0.2 and 0.28. The deviation has ddof = 1 and eps 1e-6; the paper says neither.
# To train: a judge of entity matches in the rollout's own thoughts (`rollout/gamma`: the share of the
# question's entities that occur there) and flags for errors and over-length rollouts.

extend grpo

## Share of the question's entities that the rollout's thoughts name, from 0 to 1.
input gamma : real @ rollout
## Format error, or too many tool calls.
input err : bool @ rollout = false
## Longer than allowed: no reward, and no part in the loss.
input overlong : bool @ rollout = false

## The most that a wrong rollout can earn. Reward; 0.3 (the paper).
param alpha = 0.3 in [0, 1]
## How far the ratio may rise above 1. No unit; 0.28 (DAPO; the paper says "clip-higher").
param clip_high = 0.28
## Whether the mean over rollouts counts over-length ones, with a loss of 0. A switch; false (ours).
param count_overlong = false

best    = max(gamma per group)
## The rollout's matches, measured by the best of its group.
matched = if best > 0 then gamma / best else 0
reward  = if err or overlong then 0 else if correct then 1 else alpha * matched

advantage = norm(reward)
loss      = mean((if overlong then 0 else mean(token_loss per rollout)) where count_overlong or not overlong)

## Share of the rollouts that are wrong, and earn something.
metric near_miss = mean(reward > 0 and not correct)
