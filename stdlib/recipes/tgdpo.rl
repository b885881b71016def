# TGDPO: token-level reward guidance for DPO.
# Mingkang Zhu et al., "TGDPO: Harnessing Token-Level Reward Guidance for Enhancing Direct
# Preference Optimization", 2025, arXiv 2506.14574.
#
# A policy that DPO has trained before says which tokens of a pair matter: its rewards weigh the
# tokens' log-ratios.
#
#     u_t = logp_t - ref_logp_t        h_t = rm_lp_t - ref_logp_t
#     a   = sum_t (1 + alpha beta h_t) u_t of the chosen
#     z = sum_t (1 - alpha beta h_t) u_t of the rejected
#     L   = mean over pairs of -log sigmoid(beta (a - z))
#
# Family: preferences.
# Confidence: exact from code.
# Choices: Sums, not means over tokens; weights are not clamped and may be negative. alpha = 0 is
# DPO.
# To train: pairs, as for dpo, and `token/rm_lp`: log-probabilities under the frozen token-reward
# model.

extend dpo

## Strength of the guidance. No unit; 0.5 (the code). 0 is DPO.
param alpha = 0.5 in [0, inf]

## Log-probability of the token under the frozen policy that DPO trained before, in nats.
input rm_lp : real @ token

## The token's reward.
guidance = beta * (rm_lp - ref_logp)
weight   = if is_chosen then 1 + alpha * guidance else 1 - alpha * guidance
score    = sum(weight * token_score per rollout)

## Share of the tokens that count against their own side.
metric negative_weights = token_mean(weight < 0)
