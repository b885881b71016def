# OTC-PPO: Optimal Tool Call-controlled Policy Optimization, PPO form.
# Hongru Wang et al., "Acting Less is Reasoning More! Teaching Model to Act Efficiently", 2025,
# arXiv 2504.14870.
#
# A correct rollout earns the more, the fewer tool calls it made; a critic says what each token added.
#
#     R_i = alpha cos(m pi / (2 m + c)) [correct], with the last token          A_t, critic as in ppo
#     L   = sum_t [ beta k3_t - min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) ] / tokens + critic's loss
#
# Family: reward.
# Confidence: secondary.
# Choices: c is not confirmed; 1, as in a third-party implementation (the largest number of turns is the other
# candidate). Clip 0.2 without a dual clip, KL 0.001 in the loss and the token mean are Search-R1's; GAE and the
# critic's loss are verl's, and pass over observations.
# To train: a critic, as for `ppo`, and a sampler that counts tool calls (`rollout/m`).

extend ppo

## Tool calls of the rollout.
input m : int @ rollout

## What a correct rollout without calls earns. Reward; 1 (the paper).
param alpha = 1.0 in [0, inf]
## Smoothing: how slowly calls are punished. In calls; 1 (a third-party implementation).
param c = 1.0 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (Search-R1).
param beta = 0.001 in [0, inf]

# A rollout without calls is worth 1 also where c is 0.
rtool  = if m == 0 then 1 else cos(m * pi / (2 * m + c))
reward = if correct then alpha * rtool else 0

surrogate = clipped(ratio, advantage, clip_low, clip_high)

## Tool calls per rollout.
metric calls  = mean(real(m))
## What the correct rollouts' calls left of their reward.
metric thrift = mean(rtool where correct)
