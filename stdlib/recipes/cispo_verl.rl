# CISPO as in verl.
# verl, policy loss "cispo"; MiniMax, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning
# Attention", 2025, arXiv 2506.13585.
#
# The weight of a token is clipped on both sides, not its update.
#
#     L = sum_t -sg[clip(r_t, 1 - low, 1 + high)] A_i logp_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: bounds are distances from 1, as in verl and NeMo-RL; `cispo` is TRL's, with an absolute upper bound.

extend bnpo

surrogate = detach(clip(ratio, 1 - clip_low, 1 + clip_high)) * advantage * logp

## Share of the tokens whose weight is cut.
metric clip_fraction = token_mean(ratio < 1 - clip_low or ratio > 1 + clip_high)
