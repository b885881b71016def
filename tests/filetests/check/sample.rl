# test: check
# The only words are `weight` and `rollouts`; each has one number per group, or one for the batch.
sample weight = reward                        #~ E0505 finer than a group
sample rollouts = std(reward per group)       #~ E0204 whole number
