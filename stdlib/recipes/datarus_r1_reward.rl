# Datarus-R1: the reward schedule of its fine-tuning.
# Ayoub Ben Chaliah and Hela Dellagi, "Datarus-R1: An Adaptive Multi-Step Reasoning LLM for Automated Data
# Analysis", 2025, arXiv 2508.13382.
#
# Early training pays for the structure of the answer, late training for what a hierarchical reward model
# thinks of it.
#
#     R_i = c r_structure_i + (1 - c) r_hrm_i          c = (1 + cos(pi x)) / 2, x: share of the training done
#     A, L as in grpo
#
# Family: reward.
# Confidence: reconstructed.
# Choices: The cosine goes from 1 to 0 over the whole training; only its kind is published in what was
# read.
# To train: rewards `rollout/r_structure` and `rollout/r_hrm`.

extend grpo

## Reward of the answer's structure.
input r_structure : real @ rollout
## Score of the hierarchical reward model.
input r_hrm : real @ rollout

## Share of the structure's reward.
c      = (1 + cos(pi * train.progress)) / 2
reward = c * r_structure + (1 - c) * r_hrm

## Share of the structure's reward at this step.
metric structure_share = c
