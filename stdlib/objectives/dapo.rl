# DAPO: Decoupled Clip and Dynamic sAmpling Policy Optimization.
# Qiying Yu et al., "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", 2025,
# arXiv 2503.14476.
#
# The upper clip is wider than the lower one, so that unlikely tokens can grow; every token weighs the
# same.
#
#     L = sum_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: The recipe's other two parts are options, off here: dynamic sampling is one line in your file,
# `keep group where std(reward per group) > 0`, and overlong shaping is a change to `advantage`.

extend bnpo

## How far the ratio may rise above 1. No unit; 0.28 (the paper's "clip-higher").
param clip_high = 0.28
