# test: check
extend "missing.rl"                             #~ E0106 the base `missing.rl` cannot be read
minimize seq_mean(-logp * reward)
