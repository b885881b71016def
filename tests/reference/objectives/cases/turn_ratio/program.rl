ratio = exp(mean(logp - old_logp per turn))
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high))
