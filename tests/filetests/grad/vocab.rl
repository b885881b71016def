# test: grad
# Through the vocabulary: statistics of a row, and arithmetic between them.
extend nothing
keep token where mask
z = logits / temperature
p = softmax(z)
# --- log-prob
minimize mean(-logp)
# --- entropy
minimize mean(entropy * old_logp)
# --- logsumexp
minimize mean(logsumexp(z per token) ^ 2)
# --- softmax and at
minimize mean(at(softmax(z), action) ^ 2)
# --- sum of squares
minimize mean(sum(p ^ 2 per token))
# --- Renyi entropy
minimize mean(-log(sum(p ^ 2 per token)))
# --- full KL to a reference
minimize mean(sum(p * (log_softmax(z) - log_softmax(ref_logits)) per token))
# --- reverse full KL
minimize mean(sum(softmax(ref_logits) * (log_softmax(ref_logits) - log_softmax(z)) per token))
# --- mean and max over the row
minimize mean(max(z per token) - mean(z per token))
# --- variance of the surprise
h = log_softmax(z)
minimize mean(sum(p * h ^ 2 per token) - sum(p * h per token) ^ 2)
# --- a token value meets the row
minimize mean(sum(relu(p - exp(old_logp)) per token))
# --- where over entries
minimize mean(sum(p where p > 0.1 per token))
# --- other actions
minimize mean(at(z, prev(action, 0 in rollout)) * logp)
# --- coupled: the rollout's ratio, two passes
minimize mean(exp(mean(logp - old_logp per rollout)) * reward)
# --- coupled over a group
minimize mean(std(mean(entropy per rollout) per group))
# --- two columns at once
minimize mean(logp * value)
