# test: check
# Names that are not there, each reported once, and nothing that follows from it.
advantage = center(rewrd)                       #~ E0101 cannot find `rewrd`
ratio     = exp(logp - Old_logp)                #~ E0101 `Old_logp`
surrogate = clippd(ratio, advantage, 0.2, 0.2)  #~ E0102 there is no function `clippd`
penalty   = token * 2                           #~ E0101 `token` is a level, not a value
metric a  = mean(center)                        #~ E0101 `center` is a function, not a value
metric b  = mean(reward per grup)               #~ E0105 there is no level `grup`
