# sPPO: PPO on log-ratios, as in Trinity-RFT.
# Trinity-RFT, "Trinity-RFT: A General-Purpose and Unified Framework for Reinforcement Fine-Tuning of
# Large Language Models", 2025, arXiv 2505.17826.
#
# The log-ratio in place of the ratio, and a gate that is symmetric in it and does not ask for the sign of
# the advantage.
#
#     gate_t = 1 / (1 + eps) <= sg[r_t] <= 1 + eps          d_t = logp_t - old_logp_t
#     L      = sum_t -A_i d_t gate_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: The advantage is opmd's, as in the framework's configuration: R - mean_G R, and R in a group of
# one. Not the preference method SPPO (self-play), whose losses are of another kind.

extend bnpo

## Half-width of the gate: the ratio may lie between 1 / (1 + epsilon) and 1 + epsilon. No unit; 0.3
## (Trinity-RFT).
param epsilon = 0.3

advantage = if count(reward per group) > 1 then center(reward) else reward
## Whether a token takes part.
gate      = ratio >= 1 / (1 + epsilon) and ratio <= 1 + epsilon
surrogate = if gate then advantage * (logp - old_logp) else 0

## Share of the tokens that the gate keeps out.
metric clip_fraction = token_mean(not gate)
