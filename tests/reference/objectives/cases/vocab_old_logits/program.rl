extend nothing
keep token where mask
# An old log-probability computed from the row, and a trust region on whole distributions.
old    = log_softmax(old_logits)
ratio  = exp(logp - at(old, action))
region = sum(exp(old) * (old - log_softmax(logits)) per token)
loss   = -token_mean(clipped(ratio, center(reward), 0.1, 0.1)) + 0.1 * mean(region where region > 0.01)
minimize loss
metric region = max(region)
