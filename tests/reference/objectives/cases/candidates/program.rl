extend nothing
level candidate in token
input cand_id : int @ candidate
input weight  : real @ candidate
keep token where mask
# The distribution read at several places of its row; tokens without candidates have a mean of 0.
cand_logp = at(log_softmax(logits), cand_id)
number    = count(candidate per token)
soft      = mean(cand_logp per token)
loss      = -sum(weight * cand_logp) / 10 + mean(exp(soft)) + 0.1 * mean(number * logp)
minimize loss
metric candidates = count(candidate)
metric likely     = mean(max(exp(cand_logp) per token))
