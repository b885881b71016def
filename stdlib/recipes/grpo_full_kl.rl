# GRPO with the full KL to the reference.
# verl, kl_loss_type "full" (declared there, not implemented).
#
# The divergence is summed over the vocabulary instead of estimated from the sampled token.
#
#     KL_t = sum_v p_t(v) (log p_t(v) - log ref_t(v))          L as in grpo, with beta KL_t
#
# Family: KL and entropy.
# Confidence: reconstructed.
# Choices: reconstructed from the name, since no framework implements it: reverse KL, the policy's temperature on
# both distributions.
# To train: the reference policy's logits, `vocab/ref_logits`.

extend grpo

## Weight of the KL penalty. Loss per nat; 0.001 (verl, kl_loss_coef).
param beta = 0.001 in [0, inf]

p       = softmax(logits / temperature)
gap     = log_softmax(logits / temperature) - log_softmax(ref_logits / temperature)
## KL(policy || reference) of a token's distribution, in nats. A logit of -inf adds 0.
full_kl = sum(if p > 0 then p * gap else 0 per token)
penalty = if beta == 0 then 0 else beta * full_kl

## Mean KL per token, in nats.
metric reference_kl = token_mean(full_kl)
