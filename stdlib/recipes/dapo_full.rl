# DAPO with dynamic sampling and overlong shaping.
# Qiying Yu et al., "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", 2025,
# arXiv 2503.14476.
#
# The whole recipe: the clip of dapo, a price on length near the limit, and no groups that all agree.
#
#     R'_i = R_i + min(0, -(n_i - (max_length - buffer)) / buffer * factor)
#     groups of equal R are dropped
#     L    = sum_t -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: the price has no lower bound, as in verl; OpenRLHF caps the excess at the buffer (`cap = true`).
# Groups are compared by the reward before the price, as verl does with its metric `acc` or `score`.
# To train: verl samples until the batch is full of kept groups; here a dropped group makes it smaller.

extend dapo

## The longest completion. In tokens; 20480 (the paper: 16384 and a buffer of 4096).
param max_length = 20480 in [0, inf]
## How long before the limit the price begins. In tokens; 4096 (the paper).
param overlong_buffer = 4096 in [0, inf]
## The price at the limit. Reward; 1.0 (the paper).
param overlong_factor = 1.0 in [0, inf]
## Whether the price is never more than overlong_factor. Off (verl; OpenRLHF: on).
param cap = false

keep group where max(reward per group) > min(reward per group)

excess    = max(length - (max_length - overlong_buffer), 0) / overlong_buffer
## What a rollout's length costs, in the unit of the reward.
price     = overlong_factor * (if cap then min(excess, 1) else excess)
advantage = group_norm(reward - price)

## Mean price of a rollout.
metric overlong_price = mean(price)
