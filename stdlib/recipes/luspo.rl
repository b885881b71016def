# LUSPO: Length-Unbiased Sequence Policy Optimization.
# TRL, GRPOTrainer with loss_type "luspo" and importance_sampling_level "sequence";
# arXiv 2602.05261.
#
# GSPO's loss of a rollout is multiplied by its length, so that a token weighs the same in short and in
# long rollouts.
#
#     r_i = exp(mean_t (logp_t - old_logp_t))
#     L   = mean_i n_i [ beta mean_t k3_t - min(r_i A_i, clip(r_i, 1 - low, 1 + high) A_i) ]
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: the ratio belongs to the rollout, as TRL advises for this loss, with GSPO's clip; TRL's own
# default bounds are 0.2.

extend gspo

loss = mean(count(token per rollout) * mean(token_loss per rollout))
