extend nothing
keep token where mask
p = softmax(logits)
q = softmax(ref_logits)
tv        = 0.5 * sum(abs(p - q) per token)
overlap   = sum(min(p, q) per token)
middle    = log((p + q) / 2)
js        = 0.5 * sum(p * (log(p) - middle) + q * (log(q) - middle) per token)
hellinger = 1 - sum(sqrt(p * q) per token)
loss = mean(tv) - 0.3 * mean(overlap) + mean(js ^ 2) + mean(hellinger)
minimize loss
