# Omni-R1: the reward of its fine-tuning.
# "Omni-R1: Reinforcement Learning for Omnimodal Reasoning via Two-System Collaboration", 2025,
# arXiv 2505.20256.
#
# A global system picks key frames, a detail system grounds them; the reward judges the frames, their
# alignment and the masks.
#
#     R_i = a_k (frame_i + overlap_i + ratio_i) + a_a mean_iou_i + a_g sam_iou_i + format_i
#     A, L as in grpo
#
# Family: reward.
# Confidence: exact from code.
# Choices: The three parts of the key frames' reward are columns `frame_reward`, `overlap_reward` and
# `ratio_reward`, since `ratio` is the importance ratio here. The format's reward is optional.
# To train: rewards in these columns.

extend grpo

## Weight of the key frames' reward. No unit; 1.0 (the authors' code).
param a_k = 1.0
## Weight of the alignment's reward. No unit; 1.0 (the authors' code).
param a_a = 1.0
## Weight of the grounding's reward. No unit; 1.0 (the authors' code).
param a_g = 1.0

## Reward of the chosen frames.
input frame_reward : real @ rollout
## Reward of their overlap with the true ones.
input overlap_reward : real @ rollout
## Reward of their share of the video.
input ratio_reward : real @ rollout
## Mean intersection over union of the boxes.
input mean_iou : real @ rollout
## Intersection over union of the segmented masks.
input sam_iou : real @ rollout
## 1 where the answer has the asked form, else 0; absent: none.
input format : real @ rollout = 0.0

keyframes = frame_reward + overlap_reward + ratio_reward
reward    = a_k * keyframes + a_a * mean_iou + a_g * sam_iou + format

## Mean reward.
metric reward = mean(reward)
