extend nothing
keep token where mask
peak   = max(logits per token)
trough = min(logits per token)
middle = mean(logits per token)
spread = std(logits per token)
margin = peak - at(logits, action)
likely = sum(softmax(logits) where ref_logits > 0 per token)
local  = logsumexp(logits where ref_logits > -1 per token)
size   = count(logits per token)
loss   = mean(margin) + 0.1 * mean(spread) + mean(likely ^ 2) + 0.2 * mean(local - middle) + 0.01 * mean(trough) - mean(logp) / real(max(size))
minimize loss
metric agree = mean(at(logits, action) == peak)
