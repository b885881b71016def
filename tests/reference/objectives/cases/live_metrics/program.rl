metric spread    = std(ratio)
metric top_ratio = max(ratio)
metric share_up  = mean(logp > old_logp)
metric clip_fraction = 0.5 * mean(is_clipped(ratio, advantage, clip_low, clip_high))
metric groups    = count(group)
# The batch has no such column: left out, with a note.
metric correct_steps = mean(step_correct)
