# GRPO with an entropy bonus and the whole KL divergence to a reference policy's distribution: what
# needs most of the vocabulary. The weights are made up.

extend grpo

## Weight of the entropy bonus. Loss per nat.
param entropy_weight = 0.01
## Weight of the KL penalty. Loss per nat.
param kl_weight = 0.05

log_new = log_softmax(logits)
log_ref = log_softmax(ref_logits)
## KL(current policy || reference policy) of the token's distribution, in nats.
full_kl = sum(exp(log_new) * (log_new - log_ref) per token)

token_loss = base.token_loss - entropy_weight * entropy + kl_weight * full_kl
