extend nothing
keep token where mask
loss = var(entropy) - 0.1 * max(at(log_softmax(logits), action)) + mean(logp) * mean(entropy)
minimize loss
