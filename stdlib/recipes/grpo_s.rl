# GRPO-S: GRPO with dynamic reward scaling.
# Ruoxi Cheng et al., "Inverse Reinforcement Learning with Dynamic Reward Scaling for LLM Alignment", 2025,
# arXiv 2503.18991; the last stage of DR-IRL.
#
# An advantage counts more where the response is far from the demonstration and where the policy answers to
# the reward model.
#
#     aD_i  = sigmoid(1 - W_i) / sigmoid(mean (1 - W))
#     aM    = sigmoid(mean of the kept gaps) / sigmoid(mean gap)          kept: (gap_i - mean gap)^2 <= tau
#     A_i   = aD_i aM (R_i - mean_G R) / (std_G R + eps)          means without G: over the category
#     L as in grpo
#
# Family: advantage.
# Confidence: secondary.
# Choices: The means of W and gap are over the harm category, whose index the formula carries; a third-party
# sketch takes the batch, which is what a batch without `group/category` gives. Version 1 scales the reward,
# where aM would cancel in the group's normalisation: it is the advantage that is scaled. The gap is that of
# the demonstration over the response (its sign appears both ways). tau is not given; 16 is for gaps of a few
# units. Where no gap is kept aM is 1. ddof = 0, eps 1e-6. The prose calls a large factor "easy"; the formula is
# followed. beta is not stated: GRPO's 0.
# To train: a reward model per category (`reward`, `rollout/gap`), demonstrations and a text encoder
# (`rollout/W`).

extend grpo

## Similarity of the response to its demonstration: the mean over its clauses of the largest cosine.
input W : real @ rollout
## Reward of the demonstration less that of the response.
input gap : real @ rollout
## Harm category of the prompt.
input category : int @ group = 0

## How far a gap may lie from the mean to count as typical. In squared units of the reward; 16 (ours).
param tau = 16.0 in [0, inf]

key kind = (category)

## How much harder than usual the response is, by its distance from the demonstration.
hardness = sigmoid(1 - W) / sigmoid(mean(1 - W per kind))

usual   = mean(gap per kind)
typical = (gap - usual) ^ 2 <= tau
## How the category's typical gap compares with its mean one.
responsiveness = if any(typical per kind) then sigmoid(mean(gap where typical per kind)) / sigmoid(usual) else 1

## What the advantage is scaled by.
alpha     = hardness * responsiveness
advantage = alpha * group_norm_pop(reward)

## Mean factor of the advantages.
metric alpha   = mean(alpha)
## Share of the gaps that count as typical.
metric typical = mean(typical)
