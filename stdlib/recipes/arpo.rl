# ARPO: Agentic Replay Policy Optimization for GUI agents.
# Fanbin Lu et al., "ARPO: End-to-End Policy Optimization for GUI Agents with Experience Replay", 2025,
# arXiv 2505.16282; code in dvlab-research/ARPO.
#
# A group whose rollouts all fail gets a stored success of the same task, so that hard tasks teach something.
#
#     R_i = eval_i + fmt_weight fmt_i          A_i = (R_i - mean_G R) / (std_G R + eps)
#     L   = mean_i mean_t -dual(r_t, A_i)          clip 0.2 / 0.3, where A < 0 at most 3 times -A
#
# Family: agents.
# Confidence: exact from code.
# Choices: The code's token mean is over micro-batches of one rollout, so it is the mean over rollouts that is
# written here. There is another method of this name ("Agentic Reinforced Policy Optimization").
# To train: a buffer of each task's last 8 successes (eval > 0.1). Before the advantages, in a group with
# std0(eval) < 0.05 and mean(eval) < 0.2 (`starved`), the first rollout is replaced by one of them. `old_logp`
# is recomputed for the final batch, so replayed rollouts begin with ratio 1.

extend grpo

## The environment's score of the task, from 0 to 1.
input eval : real @ rollout
## -1 where the agent's words could not be parsed, else 0.
input fmt : real @ rollout
## Whether the rollout is a replayed one.
input is_replay : bool @ rollout = false

## Price of a parse failure. Reward; 0.5 (the code).
param fmt_weight = 0.5 in [0, inf]
## How far the ratio may rise above 1. No unit; 0.3 (the code).
param clip_high = 0.3
## Dual clip: how often its own size a negative advantage's loss may be. A ratio; 3 (the code).
param clip_ratio_c = 3.0 in [1, inf]

reward    = eval + fmt_weight * fmt
advantage = group_norm_verl(reward)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)

## Share of the groups that a stored success would be put into.
metric starved  = mean(std(eval, ddof = 0 per group) < 0.05 and mean(eval per group) < 0.2)
## Share of the rollouts that are replayed.
metric replayed = mean(is_replay)
