# test: check
#~^ E0602 the program has no `minimize` or `maximize`
extend nothing
loss = seq_mean(-logp)
