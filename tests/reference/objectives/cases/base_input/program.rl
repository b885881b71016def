# base.reward is the column; base.entropy and base.logp are the prelude's.
reward  = base.reward - 0.2 * real(truncated)
logp    = max(base.logp, -4)
entropy = base.entropy / 2
token_loss = base.token_loss - 0.1 * entropy
