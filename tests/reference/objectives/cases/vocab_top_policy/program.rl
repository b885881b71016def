extend nothing
keep token where mask
# The policy among its own n most likely words, and its distance to the reference there.
inside = top(logits, 3 in token)
narrow = if inside then logits else -inf
own    = log_softmax(narrow)
other  = log_softmax(if inside then ref_logits else -inf)
mass   = sum(softmax(logits) where inside per token)
gap    = sum(if inside then exp(own) * (own - other) else 0 per token)
loss   = mean(gap) - 0.2 * mean(log(mass)) - 0.1 * mean(logp)
minimize loss
metric inside = mean(real(at(inside, action)))
