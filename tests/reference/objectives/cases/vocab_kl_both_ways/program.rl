extend nothing
keep token where mask
p = log_softmax(logits / temperature)
q = log_softmax(ref_logits / temperature)
reverse = sum(exp(p) * (p - q) per token)
forward = sum(exp(q) * (q - p) per token)
loss    = seq_mean(reverse) + 0.5 * token_mean(forward)
minimize loss
