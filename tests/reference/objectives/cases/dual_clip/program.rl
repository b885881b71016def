extend dapo
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, c = 2)
