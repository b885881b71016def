# test: check
sample weight = 1.0
sample weight = std(reward per group)         #~ E0103 twice
sample rollouts = 8
sample rollout = 8                            #~ E0013 did you mean `rollouts`
