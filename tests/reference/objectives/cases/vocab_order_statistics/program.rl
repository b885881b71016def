extend nothing
keep token where mask
high  = max(logits per token)
low   = min(logits per token)
mid   = quantile(logits, 0.5 per token)
edge  = quantile(ref_logits, 0.9 per token)
start = first(logits per token)
close = last(logits per token)
ref_p = at(softmax(ref_logits), action)
loss  = mean(high - 2 * low) + mean(start * close) + 0.1 * mean(edge * logp) + 0.1 * mean(ref_p * logp)
minimize loss
metric mid = mean(mid)
