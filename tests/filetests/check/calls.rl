# test: check
surrogate = clipped(ratio, advantage, 0.2)      #~ E0110 `clipped` needs 4 arguments
metric a = mean()                               #~ E0110 `mean` has nothing to reduce
metric b = mean(quantile(reward per group))     #~ E0110 `quantile` needs 2 arguments
metric c = mean(exp(reward, 1))                 #~ E0110 `exp` takes 1 argument
metric d = mean(group_norm(reward, 1e-6, 2))    #~ E0110 `group_norm` takes 2 arguments
metric e = mean(group_norm(reward, x = reward)) #~ E0110 `x` is given twice
metric f = mean(group_norm(reward, epsi = 1))   #~ E0111 `group_norm` has no argument `epsi`
metric g = mean(exp(reward per group))          #~ E0113 `exp` takes no `per`
metric h = mean(next(reward in group))          #~ E0110 `next` needs 2 arguments
metric i = mean(cumsum(reward))                 #~ E0110 `cumsum` needs its scope
metric j = mean(center(reward per group))       #~ E0113 `center` takes no `per`
fn scoped(x per L) = mean(x per L)
metric k = mean(scoped(reward))                 #~ E0110 `scoped` needs a `per` clause
metric l = mean(exp())                          #~ E0110 `exp` needs 1 argument
metric m = quantile(reward, 90)                 #~ E0112 the share of this quantile
metric n = quantile(reward, 1) + quantile(reward, 0.0)
