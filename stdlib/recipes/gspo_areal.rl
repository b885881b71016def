# GSPO as in AReaL.
# AReaL, importance_sampling_level "sequence"; after Chujie Zheng et al., "Group Sequence Policy
# Optimization", 2025, arXiv 2507.18071.
#
# GSPO's ratio per rollout, but a rollout counts by its tokens, not as one.
#
#     r_i = exp(mean_t (logp_t - old_logp_t))          A_i = mean_t A_t
#     L   = sum_i n_i [ beta mean_t k3_t - min(r_i A_i, clip(r_i, 1 - low, 1 + high) A_i) ] / sum_i n_i
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: the advantage is averaged over a rollout's tokens first, which changes nothing for one that is the
# same on all of them. Clip bounds are gspo's.

extend gspo

advantage = mean(base.advantage @ token per rollout)
loss      = token_mean(token_loss)
