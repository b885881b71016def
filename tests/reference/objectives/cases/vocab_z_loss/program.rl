extend nothing
z    = logsumexp(logits per token)
loss = 0.01 * mean(z ^ 2) - mean(at(logits, action) - z) + 0.1 * mean(at(softmax(logits), (action + 1) % 8))
minimize loss
