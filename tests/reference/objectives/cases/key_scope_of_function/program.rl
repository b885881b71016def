extend nothing
keep token where mask
key cell  = (group, position)
key stage = (group, index(turn in rollout))
fn span(x, floor = 0.1 per L = group) = max(max(x per L) - min(x per L), floor)
ret  = rcumsum(step_reward in rollout)
fine = norm(token_reward - old_logp per cell)
mid  = norm(ret per stage) / span(ret per stage)
far  = span(old_logp, floor = 0.5 per (group, correct))
loss = mean((fine + mid) * far * logp)
minimize loss
