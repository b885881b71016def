# test: check
sample weight = any(correct per group)        #~ E0204 truth value
sample rollouts = int(reward * 8)             #~ E0505 one value per rollout
