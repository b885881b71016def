# GRAO: Group Relative Alignment Optimization.
# Haowen Wang et al., "Learning to Align, Aligning to Learn: A Unified Approach for Self-Optimized
# Alignment", 2025, arXiv 2508.07750.
#
# A reference answer joins the group: it is imitated as far as it is better, and rollouts are set
# against it.
#
#     A   = (R - mean) / std  over the group with its reference y        J(o) = mean_t logp_t
#     max mean over groups of 1/G sum_i [ A_i J(o_i) + beta A_y J(y) + lam A_i (J(o_i) - J(y)) ]
#
# Family: supervised.
# Confidence: exact from paper.
# Choices: Whether the statistics include the reference is open in the text ("in one group (o_i,
# y)"): they do; reference_in_stats = false takes those of the rollouts. std divides by n, with
# nothing added; where it is 0, A is 0. Of several references the mean counts; a group without one
# has the terms that do not read it.
# To train: one row per group with `rollout/role` = 1, the reference answer with its reward.

extend nothing

## Weight of imitating the reference. No unit; 0.5 (the paper).
param beta = 0.5 in [0, inf]
## Weight of the contrast with the reference. No unit; 0.6 (the paper).
param lam  = 0.6 in [0, inf]
## Whether the reference counts in mean and std. On (the paper, as we read it).
param reference_in_stats = true

## 0: a rollout of the policy; 1: the reference answer.
input role : int @ rollout

## The tokens that are trained on and counted.
loss_mask = mask
keep token where loss_mask

sampled   = role == 0
counted   = reference_in_stats or sampled
spread    = std(reward, ddof = 0 where counted per group)
## Credit of a row, in standard deviations of the group's rewards.
advantage = if spread == 0 then 0
            else (reward - mean(reward where counted per group)) / spread

rollouts   = max(count(sampled per group), 1)
references = max(count(not sampled per group), 1)
## What a row's mean log-probability is worth.
weight     = if sampled then (1 + lam) * advantage / rollouts
             else (beta * advantage - lam * mean(advantage where sampled per group)) / references
## Mean log-probability of a row's tokens, in nats.
score      = mean(logp per rollout)
objective  = sum(weight * score per group)
loss       = -mean(objective)

minimize loss

## How much better the reference is than the rollouts, in the unit of the reward.
metric reference_lead = mean(reward where not sampled) - mean(reward where sampled)
