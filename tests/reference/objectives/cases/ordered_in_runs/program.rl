extend nothing
keep token where mask
key calm = runs(old_logp > -1.6 in rollout)
# Places in a run count its kept tokens; runs themselves stand in the order of the rollout.
inside = old_logp > -1.6
place  = if inside then real(index(token in calm)) else -1
final  = inside and is_last(token in calm)
length_of = count(token per calm)
next_length = next(length_of, 0 in rollout)
grown  = cumsum(mean(logp per calm) in rollout)
loss   = mean(place * logp) + mean(logp where final) + mean(sum(grown ^ 2 per rollout)) / 10 + 0.1 * mean(next_length * logp)
minimize loss
metric first = mean(count(is_first(calm in rollout) per rollout))
