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
# Choices: TRL's form (multi_objective_aggregation "normalize_then_sum"); `token_whitening = true` is verl's,
# with eps 1e-6 in the groups, groups of one kept, and moments over tokens. Up to four rewards: one that the
# batch does not have is 0 everywhere and adds nothing; a rollout without one has NaN there, which the
# statistics leave out (TRL's nanmean and nanstd).
# To train: one reward function each, recorded as `rollout/rewards.1`, `rollout/rewards.2`, ...

extend grpo

## The rewards, one column each.
input rewards[4] : real @ rollout = 0.0

## Weight of each reward. No unit; 1.0 (TRL, reward_weights; verl, gdpo_reward_weights).
param weights[4] = 1.0 in [0, inf]
## Whether the sum is whitened over tokens, with verl's group norm. Off (TRL; verl: on).
param token_whitening = false

## A reward in standard deviations of those that its group has; 0 where it is missing.
fn one(x) =
  there  = not isnan(x)
  known  = if there then x else 0
  middle = mean(known where there per group)
  spread = std(known where there per group)
  alone  = count(known where there per group) == 1
  scaled = (known - middle) / (spread + (if token_whitening then 1e-6 else 1e-4))
  if not there then 0 else if token_whitening and alone then known / (1 + 1e-6) else scaled
## Sum of the normalised rewards of a rollout.
score     = sum(weights[k] * one(rewards[k]) for k in 1..4)
## Credit of a token, in standard deviations of the batch's scores.
advantage = if token_whitening then batch_norm(score @ token)
            else (score - mean(score)) / (std(score) + 1e-4)
