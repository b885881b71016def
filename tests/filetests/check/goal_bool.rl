# test: check
minimize mean(logp) > 0                         #~ E0204 the objective must be a number
