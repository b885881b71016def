extend nothing
level candidate in token
input cand_id : int @ candidate
keep token where mask
key cell = (group, position)
key word = (group, cand_id)
# Rows of all rollouts of a group that are at one place, and that name one id.
cand_logp = at(log_softmax(logits), cand_id)
spot      = mean(cand_logp per cell)
theme     = mean(cand_logp per word)
loss      = mean(exp(spot)) + mean(theme ^ 2) + 0.1 * mean(count(candidate per word) * cand_logp)
minimize loss
metric words = count(word)
