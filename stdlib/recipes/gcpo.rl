# GCPO: Group Contrastive Policy Optimization, of GeometryZero.
# "GeometryZero: Improving Geometry Solving for LLM with Group Contrastive Policy Optimization", 2025,
# arXiv 2506.07160.
#
# Drawing an auxiliary line is rewarded where, in this very group, it helped, punished where it hurt, and
# left alone where it made no difference.
#
#     gain_G = mean_{aux} acc - mean_{not aux} acc
#     s_G    = 1 where gain_G > eps, -1 where gain_G < -eps, else 0
#     R_i    = acc_i + format_i + s_G w aux_i + len_i          A, L as in grpo
#
# Family: reward.
# Confidence: secondary.
# Choices: A group without both kinds has s_G = 0. eps = 0 and w = 1 are ours, the sources give none. The
# length reward (capped, longer is better) comes in as a column.
# To train: rewards `rollout/acc`, `rollout/format`, `rollout/len` and the flag `rollout/aux`.

extend grpo

## How large the gain must be to count. In the unit of acc; 0.0 (ours).
param eps = 0.0
## Reward of a construction that helps. In the unit of the reward; 1.0 (ours).
param w   = 1.0

## Whether the rollout draws an auxiliary construction.
input aux : bool @ rollout
## 1 where the answer is right, else 0.
input acc : real @ rollout
## Reward of the form; absent: none.
input format : real @ rollout = 0.0
## Reward of the length, capped; absent: none.
input len : real @ rollout = 0.0

both   = any(aux per group) and any(not aux per group)
gain   = mean(acc where aux per group) - mean(acc where not aux per group)
side   = if not both then 0 else if gain > eps then 1 else if gain < -eps then -1 else 0
reward = acc + format + side * w * real(aux) + len

## Mean gain of the groups that have both kinds.
metric gain = mean(gain where both)
## Share of the groups in which constructions are rewarded or punished.
metric contrast = mean(side != 0)
