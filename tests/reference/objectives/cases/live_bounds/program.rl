extend nothing
keep token where mask
# The gradient goes to a bound where the bound is what counts.
held = clip(old_logp, logp - 0.2, logp + 0.1)
loss = mean(held) + mean(logp % 2) + mean(logp // 0.5 * old_logp) + 0.1 * mean(max(old_logp, logp) / min(old_logp, logp))
minimize loss
