# TOPR: Tapered Off-Policy REINFORCE.
# Nicolas Le Roux et al., "Tapered Off-Policy REINFORCE: Stable and efficient reinforcement learning for
# LLMs", 2025, arXiv 2503.14286.
#
# Good rollouts are learned from at full weight, however unlikely they are by now; bad ones fade out as the
# policy leaves them behind.
#
#     alpha_t = 1 where A_i > threshold, else clip(sg[r_t], 0, 1)
#     L       = sum_t -alpha_t A_i logp_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: As in Trinity-RFT, per token and with an advantage; grpo's here. The paper tapers with the ratio
# of the whole rollout (`sequence_ratio = true`) and takes the raw reward for A (`raw_reward = true`, also
# what Trinity-RFT's configuration ships).

extend bnpo

## Where full weight begins: advantages above it are not tapered. In the unit of the advantage; 0.0
## (Trinity-RFT).
param threshold      = 0.0
## Whether the taper is the product of the rollout's ratios, as in the paper. false (Trinity-RFT).
param sequence_ratio = false
## Whether the raw reward takes the place of the advantage, as in the paper. false.
param raw_reward     = false

advantage = if raw_reward then reward else group_norm(reward)
log_ratio = logp - old_logp
# At most 1 by bounding the exponent, so that a long rollout cannot overflow.
taper     = exp(min(if sequence_ratio then sum(log_ratio per rollout) else log_ratio, 0))
alpha     = if advantage > threshold then 1 else detach(taper)
surrogate = alpha * advantage * logp

## Share of the tokens whose weight is tapered.
metric clip_fraction = token_mean(alpha < 1)
