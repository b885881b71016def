extend nothing
policy mtp_logits[2] : real @ vocab
param weights[2] = 0.5
keep token where mask
# Multi-token prediction beside the policy: each head's own likelihood, and its distance to the policy.
own   = log_softmax(logits)
heads = sum(weights[k] * at(log_softmax(mtp_logits[k]), action) for k in 1..2)
apart = sum(sum(exp(own) * (own - log_softmax(mtp_logits[k])) per token) for k in 1..2)
loss  = -mean(logp * token_reward) - mean(heads) + 0.1 * mean(apart)
minimize loss
