# WPO: Weighted Preference Optimization.
# Wenxuan Zhou et al., "WPO: Enhancing RLHF with Weighted Preference Optimization", 2024, arXiv
# 2406.11827.
#
# A pair counts as much as the policy would write it itself: each token's probability is measured against
# the expected one, sum p^2.
#
#     w = sg[exp(mean_t (logp_t - log sum_v p_t(v)^2))] of each rollout
#     L = mean over pairs of -w_a w_z log sigmoid(beta D)          D as in dpo
#
# Family: preferences.
# Confidence: exact from code.
# Choices: as in TRL (use_weighting); a batch must carry logits, since the weight needs all of p.

extend dpo

## log of the sum of squared probabilities of a token's distribution, in nats.
log_sum_sq_probs = logsumexp(2 * log_softmax(logits / temperature) per token)
## How well a rollout fits the policy. A ratio, no unit.
weight           = detach(exp(mean(logp - log_sum_sq_probs per rollout)))
pair_weight      = mean(weight where is_chosen per pair) * mean(weight where not is_chosen per pair)
pair_loss        = -pair_weight * log_sigmoid(beta * margin)
