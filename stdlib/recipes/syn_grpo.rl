# Syn-GRPO: self-evolving data synthesis (its reward).
# Qihan Huang et al., "Syn-GRPO: Self-Evolving Data Synthesis for MLLM Perception Reasoning", 2025,
# arXiv 2511.19343.
#
# A rollout also describes a new image, and is paid for how much the rollouts on that image
# disagree.
#
#     R_i   = reward_i + lambda_d clip((div_i - b) / max(b, 1e-6), -1, 1)
#     div = std_G accuracy
#     b     <- (1 - mu) b + mu mean_B div                                        A_i, L as in grpo
#
# Family: reward.
# Confidence: reconstructed.
# Choices: From the abstract and two summaries: diversity is the spread of accuracy over one input's
# rollouts, calibrated by a smoothed baseline. The form of the reward, mu, lambda_d and the
# baseline's start at 0 are ours; relative = false pays div - b. The reward goes to the whole
# rollout, not to the description's tokens alone.
# To train: a data server that makes images from descriptions, and brings the diversity of an
# image's group back to the rollout that described it, perhaps steps later: `rollout/produced_div`,
# NaN until then.

extend grpo

## Weight of the diversity reward. Reward; 0.5 (our choice).
param lambda_d = 0.5 in [0, inf]
## Share of a batch in the smoothed baseline. No unit; 0.1 (our choice).
param mu = 0.1 in [0, 1]
## Whether diversity is paid relative to the baseline, within [-1, 1]. On (our choice).
param relative = true

## Accuracy part of the reward: the spread of it is an input's diversity.
input accuracy : real @ rollout
## Diversity of the group on the image that this rollout described; NaN while unknown.
input produced_div : real @ rollout

## Diversity of this group: to be brought back to the rollout that described its image.
div = std(accuracy per group)
## Smoothed diversity of what the policy is trained on.
state baseline = 0.0
update baseline = (1 - mu) * baseline + mu * mean(div)

above = produced_div - baseline
paid  = if relative then clip(above / max(baseline, 1e-6), -1, 1) else above
r_div = if isfinite(produced_div) then paid else 0
## Credit of a rollout, in standard deviations of the group's rewards.
advantage = group_norm(reward + lambda_d * r_div)

## Mean diversity of the batch's groups.
metric diversity = mean(div)
## Mean diversity reward.
metric diversity_reward = mean(r_div)
