# test: check
# Read, and refused with a clear word.
list comparison in rollout                      #~ E0701
key cell = (group, position)                    #~ E0701
level candidate in token                        #~ E0701
metric a = mean(discounted(token_reward, 0.9 in rollout))   #~ E0701
metric b = mean(sort(reward in group))          #~ E0701
metric d = mean(at(logits, 0) + sum(real(top(logits, 2 in token)) per token))  #~ E0701
metric f = mean(reward per (group, position))   #~ E0701
metric g = mean(argmax(reward in group))        #~ E0701
metric h = mean(pick(reward, 0, 0.0 in group))  #~ E0701
metric i = mean(real(scan_and(mask in rollout)))
