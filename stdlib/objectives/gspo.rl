# GSPO: Group Sequence Policy Optimization.
# Chujie Zheng et al., 2025, arXiv 2507.18071.
#
# The reward belongs to the rollout, so the ratio, and its clip, belong to the rollout too: one ratio,
# the geometric mean of the tokens' ratios.
#
#     r_i = exp(mean_t (logp_t - old_logp_t))
#     L   = mean_i [ beta mean_t k3_t - min(r_i A_i, clip(r_i, 1 - low, 1 + high) A_i) ]
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: The gradient goes through the mean, as in TRL; verl's form is `gspo_token`.

extend grpo

## How far the rollout's ratio may fall below 1. No unit; 3e-4 (the paper).
param clip_low  = 3e-4
## How far the rollout's ratio may rise above 1. No unit; 4e-4 (the paper).
param clip_high = 4e-4

## The rollout's ratio: its tokens' probability now over that when sampled, per token.
ratio   = exp(mean(logp - old_logp per rollout))
penalty = if beta == 0 then 0 else beta * mean(kl_k3(logp, ref_logp) per rollout)
# The inner mean does nothing to one value per rollout; it is for a finer advantage or ratio.
loss    = mean(mean(token_loss per rollout))

## Share of the rollouts whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high))
