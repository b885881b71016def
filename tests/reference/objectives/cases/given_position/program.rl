token_loss = base.token_loss + 0.1 * real(position) / real(length) * logp
