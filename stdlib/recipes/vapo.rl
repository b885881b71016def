# VAPO: Value-based Augmented Proximal Policy Optimization.
# "VAPO: Efficient and Reliable Reinforcement Learning for Advanced Reasoning Tasks", 2025,
# arXiv 2504.05118.
#
# PPO for long answers: the critic learns undiscounted returns, lambda grows with the rollout's length, and
# correct rollouts are imitated.
#
#     lam_i = 1 - 1 / (alpha n_i) for the policy          1 for the critic
#     L     = L_ppo(lam_i) + mu mean over tokens of correct rollouts of -logp_t
#
# Family: baseline.
# Confidence: secondary.
# Choices: parts as NeMo-RL ships them, on the PPO of this library. Clip 0.2 / 0.28 and mu 0.1 are the paper's,
# alpha 0.05 too; a rollout too short for a positive lambda gets 0. A rollout is correct where its reward is
# positive.
# To train: a value head (`token/value`) and its recorded values (`token/old_value`).

extend ppo

## How far the ratio may rise above 1. No unit; 0.28 (the paper).
param clip_high = 0.28 in [0, inf]
## How fast lambda grows with length. Per token; 0.05 (the paper).
param alpha = 0.05 in [0, inf]
## Weight of the likelihood of correct rollouts. Loss per nat; 0.1 (the paper).
param mu = 0.1 in [0, inf]

policy_lam = max(1 - 1 / (alpha * count(token per rollout)), 0)
advantage  = batch_norm(discounted(surprise, gamma * policy_lam in rollout))
## Negative log-likelihood of the tokens of correct rollouts, in nats.
nll        = -mean(logp where reward > 0 @ token)
loss       = base.loss + mu * nll
