# SFT: supervised fine-tuning.
#
# Maximum likelihood on the rollouts given: every kept token of the batch weighs the same.
#
#     L = sum_t -logp_t / (number of tokens in the batch)
#
# Family: supervised.
# Confidence: exact from code.

extend nothing

## The tokens that are trained on and counted.
loss_mask = mask
keep token where loss_mask

## Negative log-likelihood of a token, in nats.
token_loss = -logp
loss       = token_mean(token_loss)

minimize loss

## exp of the mean negative log-likelihood: how many tokens the policy in effect chooses from.
metric perplexity = exp(loss)
