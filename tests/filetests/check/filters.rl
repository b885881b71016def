# test: check
extend nothing
keep rollout where logp < 0                     #~ E0202 the condition of this filter is finer
drop batch where true                           #~ E0205 cannot remove batch elements
keep vocab where true                           #~ E0205 cannot remove vocab elements
keep token where position                       #~ E0204 is true or false, but this is a number
keep rollot where truncated                     #~ E0105 there is no level `rollot`
minimize seq_mean(-logp * reward)
