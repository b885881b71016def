param use_kl   = false
param rounds   = 3
param shift    = -0.5 in [-1, 1]
penalty    = if use_kl and rounds > 2 then kl_k2(logp, ref_logp) else if rounds // 2 == 1 then shift * logp else 0
token_loss = base.token_loss / rounds
