# ProRL's penalty for not stopping properly.
# OpenRLHF, stop_properly_penalty_coef; Mingjie Liu et al., "ProRL: Prolonged Reinforcement Learning Expands
# Reasoning Boundaries in Large Language Models", 2025, arXiv 2505.24864.
#
# A rollout that ran out of room gets a share of its reward, or a fixed negative one.
#
#     R'_i = c R_i where c >= 0, else c          for truncated rollouts          L as in dapo
#
# Family: reward.
# Confidence: exact from code.
# Choices: dapo's loss around it, as in ProRL. OpenRLHF has no default; 0 here, so that a truncated rollout is
# worth nothing.

extend dapo

## Share of the reward that a truncated rollout keeps, or, where negative, its reward. No unit; 0.0.
param stop_coef = 0.0 in [-10, 1]

shaped    = if not truncated then reward else if stop_coef >= 0 then stop_coef * reward else stop_coef
advantage = group_norm(shaped)

## Share of the rollouts that did not stop by themselves.
metric truncated_fraction = mean(truncated)
