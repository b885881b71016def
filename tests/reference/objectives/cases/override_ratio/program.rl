# The surrogate and the metric of the base see the new ratio.
ratio = if position >= 2 then exp(logp - old_logp) else 1
