# GRPO with two-sided clipping.
# TRL, GRPOTrainer with delta; INTELLECT-2 Team, "INTELLECT-2", 2025, arXiv 2505.07291.
#
# The ratio is bounded from above before the minimum too, so that a negative advantage cannot push without
# limit.
#
#     L = mean_i mean_t -min(min(r_t, delta) A_i, clip(r_t, 1 - low, 1 + high) A_i)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: TRL has no default for delta, but asks for more than 1 + clip_high; 4.0 here.

extend grpo

## Upper bound of the unclipped ratio. A ratio, no unit; 4.0 (TRL: off).
param delta = 4.0 in [0, inf]

surrogate = min(min(ratio, delta) * advantage, clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)

## Share of the tokens whose gradient the clip or the bound takes away.
metric clip_fraction = token_mean(if advantage < 0 then ratio < 1 - clip_low or ratio > delta
                                  else is_clipped(ratio, advantage, clip_low, clip_high))
