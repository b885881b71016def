extend nothing
keep token where mask
total   = cumsum(logp in rollout)
to_go   = rcumsum(token_reward in rollout)
inner   = rcumsum(logp ^ 2 in turn)
rewards = cumsum(token_reward > 0 in rollout)
loss    = mean(total * to_go) + mean(inner) + 0.1 * mean(rewards * logp)
minimize loss
