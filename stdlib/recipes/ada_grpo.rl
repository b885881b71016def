# Ada-GRPO: adaptive GRPO for reasoning formats.
# Siye Wu et al., "ARM: Adaptive Reasoning Model", 2025, arXiv 2505.20258; code in TEAM-ARM/ARM.
#
# A reward in a format that is rare in its group counts more, so that no format dies out early; the
# preference fades as training goes on.
#
#     alpha_i = 1 + 0.5 (G / F_i - 1) (1 + cos(pi t / T))          F_i: the group's rollouts in i's format
#     A_i     = (alpha_i R_i - mean_G) / (std_G + eps)
#     L       = sum_t [ l_t + beta k3_t - entropy_coef H_t ] / (number of tokens)          l_t as in grpo
#
# Family: advantage.
# Confidence: exact from code.
# Choices: verl's group norm. A rollout whose format is unknown must come with a reward of 0, as in the code.
# To train: a sampler that records which format the rollout's first tag names (`rollout/format`).

extend bnpo

## The format of the reasoning: an id, such as 0 direct, 1 short chain, 2 code, 3 long chain, 4 unknown.
input format : int @ rollout

## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (the code).
param beta = 0.001 in [0, inf]
## Weight of the entropy bonus. Loss per nat; 0.001 (the code's default).
param entropy_coef = 0.001 in [0, inf]

key style = (group, format)

## Group size over the rollouts of the same format.
rarity = real(count(rollout per group)) / real(count(rollout per style))
## What the reward counts: rarity at the first step, 1 at the last.
alpha  = 1 + 0.5 * (rarity - 1) * (1 + cos(pi * train.progress))

advantage  = group_norm_verl(alpha * reward)
bonus      = if entropy_coef == 0 then 0 else entropy_coef * entropy
token_loss = base.token_loss - bonus

## Mean weight of a reward.
metric alpha  = mean(alpha @ rollout)
## Formats per group.
metric styles = mean(count(style per group))
