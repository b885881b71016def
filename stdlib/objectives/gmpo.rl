# GMPO: Geometric-Mean Policy Optimization.
# Yuzhong Zhao et al., 2025, arXiv 2507.20673.
#
# The geometric mean of the tokens' clipped ratios is less moved by one extreme token than the
# arithmetic mean of GRPO.
#
#     x_t = s min(s d_t, s clip(d_t, -low, high))          s = sign A_i, d_t = logp_t - old_logp_t
#     r_i = exp(mean_t x_t)                                L = mean_i -r_i A_i
#
# Family: ratio and clip.
# Confidence: exact from code.

extend gspo

## How far a token's log-ratio may fall. Nats; 0.4 (the paper).
param clip_low  = 0.4
## How far a token's log-ratio may rise. Nats; 0.4 (the paper).
param clip_high = 0.4

side      = sign(advantage)
log_ratio = logp - old_logp
trimmed   = clip(log_ratio, -clip_low, clip_high)
## The rollout's ratio: the geometric mean of its tokens' clipped ratios.
ratio     = exp(mean(side * min(side * log_ratio, side * trimmed) per rollout))
surrogate = ratio * advantage

## Share of the tokens whose gradient the clip takes away.
metric clip_fraction = token_mean(side * trimmed < side * log_ratio)
