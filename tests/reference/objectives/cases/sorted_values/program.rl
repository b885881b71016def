extend nothing
keep token where mask
# At the j-th kept element of a scope its j-th smallest value; the gradient goes to whom it belongs.
low   = sort(logp in rollout)
ranks = sort(reward in group)
turn_ = sort(step_reward in rollout)
place = real(index(token in rollout))
loss  = mean(place * low) + 0.1 * mean(turn_ * logp) + 0.1 * mean(ranks * mean(logp per rollout))
minimize loss
