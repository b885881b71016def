# TW-GRPO: token-weighted GRPO.
# Jisheng Dang et al., "Reinforcing Video Reasoning with Focused Thinking", 2025, arXiv 2505.24718.
#
# Positions at which the rollouts of a group predict differently carry more weight.
#
#     K_t = mean_i sum_v (exp(d_v) - d_v - 1)
#     d_v = clip(mean_j log p_jtv - log p_itv, -11, 11)
#     w_t = 1 + (alpha - 1) (K_t - min K) / (max K - min K + 1e-8)
#     over the positions of the group
#     L   = sum_t w_t [ beta k3_t - min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / (tokens)
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: K compares whole distributions of different rollouts, so the weights come as a column
# `w_t`, or as `K_t` with from_divergence = true; tw_grpo_full computes K from the distributions. In
# the code gradient also flows through the weights; here they are constants unless detach_weights =
# false.
# To train: `token/w_t`, or K_t, from the full distributions of a group at equal positions (a
# rollout that has ended counts as uniform); the reward is |predicted| / |gold| where the predicted
# options are a subset of the gold ones, else 0, plus format.

extend bnpo

## Largest weight. No unit; 1.7 (the script; the argument's default is 1.4). Read with
## from_divergence.
param alpha = 1.7 in [0, inf]
## Whether the weights come from K_t instead of w_t. Off (our choice).
param from_divergence = false
## Whether weights are constants. On (our choice; the code leaves them live).
param detach_weights = true

## Weight of the token's position in its group.
policy w_t : real @ token
## Divergence of the group's distributions at the token's position, in nats.
policy K_t : real @ token

lowest  = min(K_t per group)
highest = max(K_t per group)
scaled  = 1 + (alpha - 1) * (K_t - lowest) / (highest - lowest + 1e-8)
given   = if from_divergence then scaled else w_t
weight  = if detach_weights then detach(given) else given
token_loss = weight * base.token_loss

## Mean weight of a token.
metric mean_weight = token_mean(weight)
