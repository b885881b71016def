# GRPO for pass@k.
# verl, adv_estimator "grpo_passk"; "Optimizing Language Models for Inference Time Objectives using
# Reinforcement Learning", 2025, arXiv 2503.19595.
#
# Only the best rollout of a group has an advantage: what it adds to the second best.
#
#     A_best = (R_(1) - R_(2)) / (std_G R + 1e-6)          A = 0 elsewhere
#
# Family: advantage.
# Confidence: exact from code.
# Choices: of equal best rewards the first rollout counts, and its advantage is 0 then. A group of one, which
# verl refuses, gives 0. `by_std = false` leaves the division out (norm_adv_by_std_in_grpo).

extend bnpo

## Whether the advantage is divided by the group's deviation. On (verl).
param by_std = true

size      = count(rollout per group)
second    = max(reward, default = 0 where not top(reward, 1 in group) per group)
lead      = max(reward per group) - second
scale     = if by_std then std(reward per group) + 1e-6 else 1
## Credit of a token, in standard deviations of the group's rewards.
advantage = if size > 1 and top(reward, 1 in group) then lead / scale else 0
