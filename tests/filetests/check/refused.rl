# test: check
# What only follows from a declaration that was refused is not said again.
extend grpo
key broken = runs(undefined_name in rollout)          #~ E0101
metric a = mean(index(broken in rollout))
metric b = mean(uniform(broken))
metric c = count(broken)
key loop = (turn, count(loop))                        #~ E0104
metric d = count(loop)
level part in turn                                    #~ E0105
input weight : real @ part
metric e = count(part)
metric f = mean(mean(weight per rollout))
metric g = mean(mean(logp per part))
list inside in token                                  #~ E0105
input score : real @ inside
metric h = mean(score)
key pair = pairs(rollout in turn)                     #~ E0203
metric i = count(pair)
metric j = mean(left(reward in pair))
