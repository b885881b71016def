# ReMax: REINFORCE with a greedy baseline.
# Ziniu Li et al., "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning
# Large Language Models", 2023, arXiv 2310.10505.
#
# The reward of the greedy answer to the same prompt is the baseline.
#
#     A_t = sum_{k >= t} token_reward_k - greedy_i
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: as in verl, whose policy loss stays PPO's. The whole `reward` comes with the last token; with
# `per_token = true` the returns are those of `token/token_reward`.
# To train: one greedy rollout per prompt, its reward recorded as `rollout/greedy`.

extend bnpo

## Reward of the greedy answer to the rollout's prompt, in the unit of the reward.
input greedy : real @ rollout

## Whether rewards come per token, from `token_reward`. Off.
param per_token = false

## Return of a token: what the rollout still gets, undiscounted.
ret       = if per_token then rcumsum(token_reward in rollout) else reward @ token
## Credit of a token, in the unit of the reward.
advantage = ret - greedy
