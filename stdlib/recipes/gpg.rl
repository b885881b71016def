# GPG: Group Policy Gradient.
# Xiangxiang Chu et al., "GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning",
# 2025, arXiv 2504.02546.
#
# Plain policy gradient with a group baseline, scaled up for the rollouts that teach nothing.
#
#     A_i = (B / number of nonzero R) (R_i - mean_G R) / f_norm          B rollouts in the batch
#     L   = sum_t -A_i logp_t / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: the factor counts nonzero rewards, as verl does; the authors count rollouts of groups whose rewards
# differ (`by_group = true`). A group of one keeps its reward, as in verl. No rewards but 0 count as one.

extend bnpo

## Divides the advantage. No unit; 1.0 (verl, f_norm).
param f_norm = 1.0 in [0, inf]
## Whether the factor counts rollouts of groups whose rewards differ. Off (verl).
param by_group = false

mixed     = max(reward per group) > min(reward per group)
teaching  = count(if by_group then mixed @ rollout else reward != 0)
above     = if count(rollout per group) == 1 then reward else center(reward)
## Credit of a token, in the unit of the reward.
advantage = count(rollout) / max(teaching, 1) * above / f_norm
surrogate = advantage * logp

## Share of the tokens whose gradient a clip takes away: there is no clip.
metric clip_fraction = 0
