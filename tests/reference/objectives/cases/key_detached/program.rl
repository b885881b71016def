extend nothing
keep token where mask
key cell = (group, position)
# No gradient flows through the baseline, but it reads the other rollouts' policy.
usual = detach(mean(entropy per cell))
loss  = mean((token_reward - usual) * logp)
minimize loss
