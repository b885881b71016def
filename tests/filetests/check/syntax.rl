# test: check
# A broken statement does not hide the errors of the next one.
advantage center(reward)                        #~ E0001
ratio = exp(logp - old_logp                     #~ E0002
surrogate = ratio *                             #~ E0003
let penalty = 0.0                               #~ E0004
per = 0.5                                       #~ E0005
a = if 0 < reward < 1 then 1 else 0             #~ E0006
b = if reward > 0 then 1                        #~ E0007
c = reward && correct                           #~ E0009
d = 2 reward                                    #~ E0011
e = mean(reward) per group                      #~ E0012
param f = 1 + 1                                 #~ E0013
g = .5                                          #~ E0014
h = group_norm(eps = 1, reward)                 #~ E0015
fn k(x) =
  y = x                                         #~ E0017
extend "dapo.rl
#~^ E0002
metric z = mean(rewad)                          #~ E0101 cannot find `rewad`
