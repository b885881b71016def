# test: check
extend nothing  #~ E0602 the program has no `minimize` or `maximize`
loss = seq_mean(-logp)
