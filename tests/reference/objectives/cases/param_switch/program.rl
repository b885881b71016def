param use_kl = false
penalty = if use_kl then kl_k2(logp, ref_logp) else 0
