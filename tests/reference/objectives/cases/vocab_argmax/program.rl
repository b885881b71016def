extend nothing
keep token where mask
# At token level: the most likely word, the first of equal ones.
best   = argmax(logits in token)
chosen = argmax(ref_logits in token)
agree  = best == chosen
loss   = -mean(at(log_softmax(logits), chosen)) - 0.1 * mean(at(logits, best)) + 0.1 * sum(real(best) * token_reward * logp) / 10
minimize loss
metric agree  = mean(agree)
metric greedy = mean(best == action)
