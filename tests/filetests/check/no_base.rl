# test: check
extend dap                                      #~ E0106 there is no library objective `dap`
minimize seq_mean(-logp * reward)
