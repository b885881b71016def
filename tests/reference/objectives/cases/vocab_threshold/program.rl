extend nothing
keep token where mask
# A live condition inside the row, and a value that comes back down from the row's reduction.
p      = softmax(logits)
sure   = sum(if p > 0.1 then p else 0 per token)
excess = sum(relu(logits - mean(logits per token)) ^ 2 per token)
loss   = -mean(log(sure)) + 0.05 * mean(excess)
minimize loss
