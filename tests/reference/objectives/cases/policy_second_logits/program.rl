extend nothing
policy draft : real @ vocab
keep token where mask
# Distillation of a draft head from the (fixed) policy, and its own likelihood.
teacher = detach(softmax(logits))
loss    = -mean(sum(teacher * log_softmax(draft) per token)) - 0.1 * mean(at(log_softmax(draft), action)) - 0.01 * mean(logp)
minimize loss
