extend nothing
keep token where mask
# Every element of a scope reads the place of its largest; of equal ones the first.
peak = argmax(old_logp in rollout)
flat = argmax(token_reward in turn)
won  = argmax(reward in group)
here = index(token in rollout) == peak
loss = mean(logp where here) + 0.1 * mean((flat + won) * logp)
minimize loss
metric early = mean(peak == 0)
