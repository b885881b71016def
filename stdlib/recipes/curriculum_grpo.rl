# Curriculum GRPO: train long, think short.
# Hasan Abed Al Kader Hammoud et al., "Train Long, Think Short: Curriculum Learning for Efficient Reasoning",
# 2025, arXiv 2508.08940.
#
# The token budget that a rollout is paid to meet shrinks in steps as training goes on.
#
#     L(t)   = max(1, B0 g^floor(t / T))          linear: B0 - (B0 - B_end) / 3 min(floor(t / T), 3)
#     Rlen_i = Rmax l / L up to L, then down to 0 at 2 L
#     R_i    = lc Rcor correct + ll Rlen + lf (a_think think_ok + a_ans ans_ok)
#     A_i    = (R_i - mean_G R) / sqrt(var_G R + eps)          loss as in grpo
#
# Family: reward.
# Confidence: exact from paper.
# Choices: The text prints a ratio per rollout; training was TRL's GRPO, so it is per token here. ddof = 0 and
# eps inside the root, as the formula reads. Of the two published weightings, (lc, ll) = (0.3, 0.6), the other
# being (0.6, 0.3); lf is what is missing to 1. Rcor, Rmax, a_think, a_ans, eps and beta are not stated: 1, 1,
# 0.5, 0.5, 1e-6 and GRPO's 0. The variant `linear` has "about three" equal drops, which are three here, to the last
# budget of the other, as whole tokens 87.
# To train: prompts that name the present budget, and checks of the tags (`rollout/think_ok`,
# `rollout/ans_ok`).

extend grpo

## Whether the thinking tags are as asked for.
input think_ok : bool @ rollout
## Whether the answer tags are as asked for.
input ans_ok : bool @ rollout

## The first budget. In tokens; 256 (the paper).
param B0 = 256.0 in [1, inf]
## What a drop leaves of the budget. A share; 0.7 (the paper; 0.34 with T 300, 0.857 with T 75).
param g = 0.7 in [0, 1]
## How many steps a budget lasts. In optimiser steps; 150 (the paper, of 600).
param T = 150 in [1, inf]
## Whether the budget falls by equal amounts, not by equal shares. A switch; false (the paper's main runs).
param linear = false
## The last budget where it falls by equal amounts. In tokens; 87 (the paper).
param B_end = 87.0 in [1, inf]
## Weight of correctness. No unit; 0.3 (the paper).
param lc = 0.3
## Weight of length. No unit; 0.6 (the paper).
param ll = 0.6
## Weight of format. No unit; 0.1 (1 less the others).
param lf = 0.1
## What a correct answer earns. Reward; 1 (ours).
param Rcor = 1.0
## What the right length earns. Reward; 1 (ours).
param Rmax = 1.0
## What good thinking tags earn. Reward; 0.5 (ours).
param a_think = 0.5
## What good answer tags earn. Reward; 0.5 (ours).
param a_ans = 0.5
## Whether shorter rollouts earn as much as those at the budget. A switch; false (the paper's triangle).
param band = false
## What is added to the variance. In squared units of the reward; 1e-6 (ours).
param eps = 1e-6 in [0, inf]

drops  = floor(train.step / T)
## The token budget of this step.
budget = max(1, if linear then B0 - (B0 - B_end) / 3 * min(drops, 3) else B0 * g ^ drops)
used   = length / budget
## What the rollout's length earns.
length_reward = if used <= 1 then (if band then Rmax else Rmax * used) else Rmax * max(2 - used, 0)
format_reward = a_think * real(think_ok) + a_ans * real(ans_ok)
reward        = lc * Rcor * real(correct) + ll * length_reward + lf * format_reward

advantage = (reward - mean(reward per group)) / sqrt(var(reward, ddof = 0 per group) + eps)

## The token budget.
metric budget = budget
## Share of the rollouts that are longer than it.
metric over_budget = mean(used > 1)
