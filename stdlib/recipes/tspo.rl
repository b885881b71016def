# TSPO: Temporal Sampling Policy Optimization.
# "TSPO: Temporal Sampling Policy Optimization for Long-form Video Language Understanding", 2025,
# arXiv 2508.04369.
#
# A small selector of video frames is the policy, and the frozen video model's answer its reward; the
# "tokens" are the selected frames.
#
#     s_f  = (cos_sim + clip_score)_f / tau      tau: 0.025 -> 0.01 over training
#     R_i  = acc_i + hit_i where the sample has a true interval, else acc_i + 1
#     A_i  = (R_i - mean_G R) / (std_G R + 1e-4)
#     L    = -mean_i A_i mean_f exp(logp_f - sg[logp_f])
#
# Family: sampling.
# Confidence: exact from code.
# Choices: The schedule is linear in the share of the training done (`train.progress`).
# To train: a sampler that draws frames, with `vocab/logits` = cos_sim + clip_score over the candidate
# frames, `rollout/acc`, `rollout/has_interval` and `token/in_interval`.

extend grpo

## Temperature of the frame scores at the start. No unit; 0.025 (the authors' code).
param tau_start = 0.025
## Temperature of the frame scores at the end. No unit; 0.01 (the authors' code).
param tau_end   = 0.01

## 1 where the video model's answer is right, else 0.
input acc : real @ rollout
## Whether the sample has a true interval.
input has_interval : bool @ rollout
## Whether the selected frame lies inside the true interval.
input in_interval : bool @ token

temperature = tau_start + (tau_end - tau_start) * train.progress

## Share of the selected frames inside the interval.
hit       = mean(in_interval per rollout)
reward    = acc + (if has_interval then hit else 1)
# 1 in value, with the gradient of logp: REINFORCE.
ratio     = exp(logp - detach(logp))
surrogate = ratio * advantage

## Mean share of the selected frames inside the interval, of the samples that have one.
metric hit = mean(hit where has_interval)
## Nothing is clipped.
metric clip_fraction = 0.0
