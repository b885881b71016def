# A penalty on likelihood that falls, in rollouts where it falls on the whole.
gap  = old_logp - logp
lld  = if sum(gap per rollout) > 0 then sum(relu(gap) per rollout) else 0
loss = base.loss + 0.5 * mean(lld)
