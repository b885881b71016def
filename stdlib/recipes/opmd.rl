# OPMD: Online Policy Mirror Descent, as in Trinity-RFT.
# Trinity-RFT, "Trinity-RFT: A General-Purpose and Unified Framework for Reinforcement Fine-Tuning of
# Large Language Models", 2025, arXiv 2505.17826.
#
# REINFORCE with the group's mean as baseline, on whatever policy wrote the rollouts: the sampling policy's
# log-probs are not used.
#
#     A_i = R_i - b_G          b_G = mean_G R
#     L   = sum_t -A_i logp_t / (number of tokens in the batch) / (1 + tau)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: A group of one has the baseline 0. The factor 1 / (1 + tau) only scales the learning rate.
# `opmd_logavgexp` has the other published baseline.

extend bnpo

## Temperature of the mirror descent. In the unit of the reward; 1.0 (Trinity-RFT).
param tau = 1.0

## What a group's rewards are compared with.
baseline  = mean(reward per group)
advantage = if count(reward per group) > 1 then reward - baseline else reward
surrogate = advantage * logp
loss      = base.loss / (1 + tau)

## Nothing is clipped.
metric clip_fraction = 0.0
## Share of the tokens that are made more likely.
metric pushed_up     = token_mean(advantage > 0)
