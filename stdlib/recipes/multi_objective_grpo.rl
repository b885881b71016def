# Multi-objective GRPO for safe and aligned generation.
# "Optimizing Safe and Aligned Language Generation: A Multi-Objective GRPO Approach", 2025,
# arXiv 2503.21819.
#
# One reward model scores politeness, meaningfulness, actionability and safety; plain GRPO maximises their
# weighted sum.
#
#     R_i = sum_k weights_k rewards_{k,i}          A, L as in grpo
#
# Family: reward.
# Confidence: secondary.
# Choices: Equal weights, which add up to 1.
# To train: a reward model that records `rollout/rewards.1` (politeness), `.2` (meaningfulness),
# `.3` (actionability), `.4` (safety).

extend grpo

## Weight of each score. No unit; 0.25 (ours: equal).
param weights[4] = 0.25

## Scores of the reward model: politeness, meaningfulness, actionability, safety.
input rewards[4] : real @ rollout

reward = sum(weights[k] * rewards[k] for k in 1..4)

## Mean weighted score.
metric reward = mean(reward)
