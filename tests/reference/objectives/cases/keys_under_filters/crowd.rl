extend grpo
key cell = (group, position)
drop token where mean(old_logp per cell) < -1.4
