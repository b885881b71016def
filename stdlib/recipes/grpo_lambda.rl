# GRPO-lambda: stable RL for efficient reasoning.
# Muzhi Dai et al., "Stable Reinforcement Learning for Efficient Reasoning", 2025, arXiv 2505.18086.
#
# Only the prompts that the policy solves best are asked to be short; elsewhere correctness alone
# pays.
#
#     the ceil(lam groups) groups of highest accuracy:  R_i = 1 - alpha sigmoid((L_i - mu_k) / sd_k)
#     other groups:                                     R_i = 1        wrong rollouts 0 in either
#     mu_k, sd_k over the lengths of the group's correct rollouts;     A_i, L as in grpo
#
# Family: reward.
# Confidence: secondary.
# Choices: From an independent write-up whose code uses alpha = 0.6; the paper's value was not seen.
# Ties in accuracy go to the earlier group; at least one group is chosen. sd is the population's,
# floored at 1e-4, and the advantage's eps is 1e-4: the sources give neither. Wrong rollouts get 0
# everywhere (the write-up's code forgets them). A length counts the kept tokens.
# To train: `rollout/correct`.

extend grpo

## Share of the batch's groups that are asked to be short. No unit; 0.2 (the write-up).
param lam   = 0.2 in [0, 1]
## Most that length can cost. Reward; 0.6 (the write-up's code).
param alpha = 0.6 in [0, 1]

accuracy = mean(correct per group)
## Whether the group is among the best solved ones.
efficient = top(accuracy, max(1, ceil(lam * count(group))) in batch)

tokens     = count(token per rollout)
mean_right = mean(tokens where correct per group)
std_right  = max(std(tokens, ddof = 0 where correct per group), 1e-4)
length_cost = alpha * sigmoid((tokens - mean_right) / std_right)
## 1 for a correct rollout, less its length's cost in an efficient group.
shaped    = if not correct then 0 else if efficient then 1 - length_cost else 1
## Credit of a rollout, in standard deviations of the group's shaped rewards.
advantage = group_norm(shaped)

## Mean length of the correct rollouts, in tokens.
metric right_length = mean(tokens where correct)
## Lowest accuracy among the groups that are asked to be short.
metric efficient_accuracy = min(accuracy, default = 1 where efficient)
