# GSPO-token: Group Sequence Policy Optimization, token form.
# Chujie Zheng et al., 2025, arXiv 2507.18071.
#
# The value of the rollout's ratio with the gradient of the token: the same as gspo where the advantage
# is one per rollout, and ready for advantages that vary within it.
#
#     s_t = sg[mean_t d_t] + logp_t - sg[logp_t]          d_t = logp_t - old_logp_t
#     L   = mean_i mean_t -min(exp(s_t) A_t, clip(exp(s_t), 1 - low, 1 + high) A_t)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: verl bounds s_t at 10 from above; TRL and we do not.

extend gspo

ratio = exp(with_grad(mean(logp - old_logp per rollout), logp))
loss  = seq_mean(token_loss)
