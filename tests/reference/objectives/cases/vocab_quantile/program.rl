extend nothing
keep token where mask
spread = quantile(logits, 0.8 per token) - quantile(logits, 0.25 per token)
loss   = mean(spread) - 0.1 * mean(logp)
minimize loss
