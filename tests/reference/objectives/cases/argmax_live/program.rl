extend nothing
keep token where mask
# No gradient, but the place depends on the policy: the whole rollout is needed.
far  = argmax(logp in rollout) - index(token in rollout)
loss = mean(real(abs(far)) * logp)
minimize loss
