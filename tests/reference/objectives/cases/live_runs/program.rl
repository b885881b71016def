extend nothing
keep token where mask
key hot = runs(logp - old_logp > 0.05 in rollout)
# The policy decides what a run is: a rollout is needed whole, masked tokens included, but no more.
heat = mean(logp * old_logp per hot)
loss = mean(mean(heat per rollout)) + 0.1 * mean(count(token per hot) @ token * logp)
minimize loss
metric hot = count(hot)
