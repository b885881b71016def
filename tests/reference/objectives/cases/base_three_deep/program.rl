extend "middle.rl"
token_loss = base.token_loss + 0.1 * level_three
level_three = (logp - old_logp) ^ 2
