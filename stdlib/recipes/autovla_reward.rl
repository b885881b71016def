# AutoVLA: the reward of its fine-tuning.
# "AutoVLA: A Vision-Language-Action Model for End-to-End Autonomous Driving with Adaptive Reasoning and
# Reinforcement Fine-Tuning", 2025, arXiv 2506.13757.
#
# A drive is worth its score less the length of the reasoning it took, so that easy scenes are driven
# without a thought.
#
#     R_i = driving_score_i - lam cot_length_i          A, L as in grpo
#
# Family: reward.
# Confidence: reconstructed.
# Choices: lam = 1e-3 is ours, none is published in what was read. The score is the PDM score, or a
# displacement error with its sign turned; the length is in tokens.
# To train: a simulator that records `rollout/driving_score`, and `rollout/cot_length`.

extend grpo

## Price of a token of reasoning. Reward per token; 0.001 (ours).
param lam = 1e-3

## How well the trajectory drives; more is better.
input driving_score : real @ rollout
## Length of the reasoning, in tokens.
input cot_length : real @ rollout

reward = driving_score - lam * cot_length

## Mean length of the reasoning, in tokens.
metric cot_length = mean(cot_length)
