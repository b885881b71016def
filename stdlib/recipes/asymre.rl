# AsymRE: Asymmetric REINFORCE.
# Charles Arnal et al., "Asymmetric REINFORCE for Off-Policy Reinforcement Learning: Balancing Positive
# and Negative Rewards", 2025, arXiv 2506.20520.
#
# Off-policy REINFORCE with a baseline below the mean: good rollouts weigh more than bad ones, which keeps
# training on old data from collapsing.
#
#     A_i = R_i - (mean_G R + shift)
#     L   = sum_t -A_i logp_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: As in Trinity-RFT: no ratio, no clip, and a group of one keeps its reward (A = R, no shift).

extend bnpo

## How far the baseline lies above the group's mean; negative favours good rollouts. In the unit of the
## reward; -0.1 (Trinity-RFT).
param shift = -0.1

advantage = if count(reward per group) > 1 then center(reward) - shift else reward
surrogate = advantage * logp

## Nothing is clipped.
metric clip_fraction = 0.0
## Share of the tokens that are made more likely.
metric pushed_up     = token_mean(advantage > 0)
