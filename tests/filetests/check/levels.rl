# test: check
level item in rollout
input weight : real @ item
advantage = step_correct * weight               #~ E0201 neither level lies inside the other
metric a = mean(reward where mask)              #~ E0202 this `where` is finer
metric b = mean(mean(reward per token))         #~ E0203 cannot reduce this to the token
metric c = mean(mean(weight per turn))          #~ E0203 cannot reduce this
metric d = mean(logp @ rollout)                 #~ E0205 a rollout does not lie inside a token
metric e = mean(softmax(logits))                #~ E0206 would join the vocabularies
metric f = mean(softmax(logp))                  #~ E0202 works on the vocabulary of a token
metric g = mean(at(logits, reward))             #~ E0204 whole number
metric h = mean(next(reward, logp in group))    #~ E0202 the default of `next` is finer
metric i = mean(cumsum(reward in turn))         #~ E0203 runs inside a coarser level
metric j = mean(max(reward where truncated, default = logp per group))  #~ E0202 is finer than its result
metric k = reward                               #~ E0601 a metric is one number
