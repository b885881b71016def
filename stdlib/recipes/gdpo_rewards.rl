# GDPO: Group reward-Decoupled normalization Policy Optimization.
# "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL
# Optimization", 2026, arXiv 2601.05242.
#
# Each reward is normalised in its group before they are added, so that one of large spread cannot drown
# the others.
#
#     z_k = (R_k - mean_G R_k) / (std_G R_k + 1e-4)          s = sum_k w_k z_k
#     A_i = (s_i - mean_B s) / (std_B s + 1e-4)              L as in grpo
#
# Family: advantage.
# Confidence: exact from code.
# Choices: TRL's form (multi_objective_aggregation "normalize_then_sum"); `token_whitening = 1` is verl's,
# with eps 1e-6 in the groups, groups of one kept, and moments over tokens. Up to four rewards: one that the
# batch does not have is 0 everywhere and adds nothing.
# To train: one reward function each, recorded as `rollout/rewards.1`, `rollout/rewards.2`, ...

extend grpo

## The rewards, one column each.
input rewards[4] : real @ rollout = 0.0

## Weight of each reward. No unit; 1.0 (TRL, reward_weights; verl, gdpo_reward_weights).
param weights[4] = 1.0 in [0, inf]
## Whether the sum is whitened over tokens, with verl's group norm. 0 or 1; 0 (TRL; verl: 1).
param token_whitening = 0 in [0, 1]

fn one(x) = if token_whitening == 1 then group_norm_verl(x) else group_norm(x)
## Sum of the normalised rewards of a rollout.
score     = sum(weights[k] * one(rewards[k]) for k in 1..4)
## Credit of a token, in standard deviations of the batch's scores.
advantage = if token_whitening == 1 then batch_norm(score @ token)
            else (score - mean(score)) / (std(score) + 1e-4)
