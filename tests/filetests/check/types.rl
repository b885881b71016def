# test: check
advantage = reward * correct                    #~ E0204 a truth value stands where a number belongs
metric a  = mean(if reward then 1 else 0)       #~ E0204 is true or false, but this is a number
metric b  = mean(reward and correct)            #~ E0204 is true or false, but this is a number
metric c  = mean(if correct then 1 else true)   #~ E0204 one side is
metric d  = mean(reward where reward)           #~ E0204 is true or false, but this is a number
metric e  = mean(correct) + mean(real(truncated))
metric f  = mean(at(logits, 0.5))               #~ E0204 is a whole number
metric g  = mean(next(reward, 0.0, by = position in group))  #~ E0204 `by` is a whole literal
policy h : int @ token                          #~ E0204 must be real
input i : int @ rollout = 0.5                   #~ E0204 the default of `i` is not int
metric j  = mean(-truncated)                    #~ E0204 a truth value stands where a number belongs
metric k  = mean(not reward)                    #~ E0204 is true or false, but this is a number
metric l  = mean(h) + mean(i)
