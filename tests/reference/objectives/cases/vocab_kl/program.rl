extend nothing
keep token where mask
full_kl = sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)
loss    = seq_mean(full_kl)
minimize loss
