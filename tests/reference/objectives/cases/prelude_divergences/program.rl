extend nothing
keep token where mask
k1   = kl_k1(logp, ref_logp)
k2   = kl_k2(logp, ref = ref_logp)
k3   = kl_k3(logp, ref_logp)
# The value of k3 with the gradient of k2.
loss = seq_sum(with_grad(k3, k2)) + 0.1 * token_mean(k1 * k2) + 0.01 * seq_mean(k3)
minimize loss
