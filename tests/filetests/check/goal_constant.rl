# test: check
ratio = detach(exp(logp - old_logp))
penalty = 0.0
minimize loss                                   #~ E0401 depends on no differentiable input
