# MIX: RL and SFT in one batch, as in Trinity-RFT.
# Trinity-RFT, "Trinity-RFT: A General-Purpose and Unified Framework for Reinforcement Fine-Tuning of
# Large Language Models", 2025, arXiv 2505.17826.
#
# Rollouts of the policy get GRPO's loss, traces of an expert the likelihood's, and each part has a
# denominator of its own.
#
#     L = (1 - mu) (1 / n_usual) sum_{i not expert} mean_t l_t  +  mu (1 / n_expert) sum_{i expert} mean_t s_t
#     l_t as in grpo, its group statistics over the rollouts that are not expert      s_t = -logp_t
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: n_usual and n_expert are the numbers of rollouts a batch is expected to hold (the code's
# configuration, train_batch_size_usual and train_batch_size_expert), not those it holds; at 0, the default
# here, those it holds count. The code averages over the tokens of a micro-batch; this is its
# micro-batch of one rollout, which does not depend on the cut, and `token_level = true` that of the whole
# batch: a part is its mean over tokens, times the rollouts it holds over n. The eps of the group norm is
# grpo's (the code: 1e-6).
# To train: a sampler that mixes expert traces in and records `rollout/is_expert`.

extend grpo

## Weight of the expert part; the other part has 1 - mu. No unit; 0.1 (Trinity-RFT).
param mu              = 0.1 in [0, 1]
## How many rollouts of the policy a batch is expected to hold. In rollouts; 0 (ours): as many as it
## holds.
param expected_usual  = 0
## How many of the expert's a batch is expected to hold. In rollouts; 0 (ours): as many as it holds.
param expected_expert = 0
## Whether a part is a mean over its tokens instead of over tokens, then rollouts. Off (ours).
param token_level     = false

## Whether the rollout is an expert's trace.
input is_expert : bool @ rollout

usual    = not is_expert
n_usual  = if expected_usual > 0 then expected_usual else max(count(usual), 1)
n_expert = if expected_expert > 0 then expected_expert else max(count(is_expert), 1)

advantage = (reward - mean(reward where usual per group)) / (std(reward where usual per group) + 1e-4)
## Supervised loss of a token.
sft_loss  = -logp
rl_part   = (if token_level then count(usual) * mean(token_loss where usual)
             else sum(mean(token_loss per rollout) where usual)) / n_usual
sft_part  = (if token_level then count(is_expert) * mean(sft_loss where is_expert)
             else sum(mean(sft_loss per rollout) where is_expert)) / n_expert
loss      = (1 - mu) * rl_part + mu * sft_part

## Share of the policy's tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where usual)
## KL(sampling policy || current policy) per token of the policy's rollouts, estimated by k1, in nats.
metric approx_kl     = mean(old_logp - logp where usual)
## Mean supervised loss of the expert's tokens.
metric sft_loss      = mean(sft_loss where is_expert)
