extend nothing
keep token where mask
key cell = (group, position)
# From one rollout of the group to the next that reaches this place.
so_far = cumsum(logp in cell)
to_go  = rcumsum(token_reward in cell)
after  = next(logp, 0.5 in cell)
before = prev(old_logp, -1 in cell)
lead   = is_first(token in cell)
number = index(token in cell)
loss   = mean(so_far * token_reward) + mean((to_go + before) * logp) + mean(after ^ 2) + 0.1 * mean(number * logp) + mean(logp where lead)
minimize loss
