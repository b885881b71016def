extend nothing
level candidate in token
input allowed : bool @ candidate
input weight  : real @ candidate
policy guess : real @ candidate
keep token where mask
keep candidate where allowed
# Differentiable rows; the filter takes rows away and leaves their tokens.
mixed = logsumexp(guess per token)
some  = any(weight > 0.5 per token)
best  = first(guess per token)
order = cumsum(weight in token)
place = index(candidate in token)
loss  = mean(if count(candidate per token) > 0 then mixed else 0) + 0.1 * mean(best * old_logp where some)
        + 0.1 * mean((order + place) * guess) + 0.1 * mean(sum(guess per rollout) ^ 2)
minimize loss
metric rows = count(candidate)
