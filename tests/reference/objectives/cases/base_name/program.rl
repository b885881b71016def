token_loss = base.token_loss + 0.01 * (logp - old_logp) ^ 2
