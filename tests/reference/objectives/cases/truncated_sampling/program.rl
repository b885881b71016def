extend dapo
# Truncated importance sampling for the gap between sampler and trainer.
param tis_cap = 2.0
tis        = detach(min(exp(old_logp - sampler_logp), tis_cap))
token_loss = base.token_loss * tis
