# PPO with an adaptive KL price.
# Daniel M. Ziegler et al., "Fine-Tuning Language Models from Human Preferences", 2019, arXiv 1909.08593;
# verl, AdaptiveKLController.
#
# The price of the KL in the reward rises while the policy is further from the reference than wanted.
#
#     c <- c (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon)          n rollouts in the batch
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: KL is the mean over rollouts of their mean k1 to the reference, of the policy that sampled, as
# verl measures it.

extend ppo

## KL to hold. Nats per token; 0.1 (verl, target_kl).
param target_kl = 0.1 in [0, inf]
## How slowly the price moves. In rollouts; 10000 (verl, horizon).
param horizon = 10000 in [0, inf]
## The price before the first step. Reward per nat; 0.001 (verl, kl_coef).
param kl_start = 0.001 in [0, inf]

## By how much the price has grown since the first step. No unit.
state growth = 1.0

price     = kl_start * growth
token_kl  = price * kl_k1(old_logp, ref_logp)
## KL(policy that sampled || reference), in nats per token.
recent_kl = seq_mean(kl_k1(old_logp, ref_logp))
update growth = growth * (1 + clip(recent_kl / target_kl - 1, -0.2, 0.2) * count(rollout) / horizon)

## The price that was used, reward per nat.
metric kl_price = price
