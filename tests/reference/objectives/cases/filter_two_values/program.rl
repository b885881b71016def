# `spread` is read by a condition, before the filter, and by the loss, after it.
spread = std(old_logp per rollout)
drop token where old_logp < -1 - spread
loss = base.loss + 0.1 * mean(spread * mean(logp per rollout))
