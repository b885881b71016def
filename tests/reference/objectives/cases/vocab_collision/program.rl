extend nothing
keep token where mask
p2   = sum(softmax(logits / temperature) ^ 2 per token)
loss = mean(p2) - 0.5 * mean(logp)
minimize loss
