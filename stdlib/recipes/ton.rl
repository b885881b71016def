# TON: Think-Or-Not.
# "Think or Not? Selective Reasoning via Reinforcement Learning for Vision-Language Models", 2025,
# arXiv 2505.16854.
#
# Supervised "thought dropout" teaches the model that it may skip its thought; plain GRPO on three 0/1
# rewards then lets it find out where skipping pays.
#
#     R_i = type_match_i + value_match_i + format_i          A, L as in grpo, beta 0.04
#
# Family: reward.
# Confidence: exact from code.
# Choices: The KL weight is the default of the trainer at the time (TRL, 0.04); at 0 no reference is
# needed. A click's value matches where its distance to the target is below 0.14 and both are clicks.
# To train: a model after thought dropout, and rewards `rollout/type_match`, `rollout/value_match` and
# `rollout/format`.

extend grpo

## Weight of the KL penalty to the reference policy. Loss per nat; 0.04 (TRL at the time).
param beta = 0.04

## 1 where the action has the right type, else 0.
input type_match : real @ rollout
## 1 where the action's value is right, else 0.
input value_match : real @ rollout
## 1 where the answer has the asked form, else 0.
input format : real @ rollout

reward = type_match + value_match + format

## Mean reward, of 3.
metric reward = mean(reward)
