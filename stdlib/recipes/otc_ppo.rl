# OTC-PPO: Optimal Tool Call-controlled Policy Optimization, PPO form.
# Hongru Wang et al., "Acting Less is Reasoning More! Teaching Model to Act Efficiently", 2025,
# arXiv 2504.14870.
#
# A correct rollout earns the more, the fewer tool calls it made; a critic says what each token added.
#
#     R_i   = alpha cos(m pi / (2 m + c)) [correct], with the last token
#     A_t   = whitened GAE of R with the old values          G_t = GAE_t + V_t
#     L     = sum_t [ beta k3_t - min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t)
#                     + value_coef max((v_t - G_t)^2, (V_t + clip(v_t - V_t, -b, b) - G_t)^2) / 2 ] / tokens
#
# Family: reward.
# Confidence: secondary.
# Choices: c is not confirmed; 1, as in a third-party implementation (the largest number of turns is the other
# candidate). Clip 0.2, KL 0.001 and the token mean are Search-R1's, GAE and critic loss verl's, with gamma and
# lam 1; observations are passed over.
# To train: a critic (`token/value`, `token/old_value`) and a sampler that counts tool calls (`rollout/m`).

extend bnpo

## Tool calls of the rollout.
input m : int @ rollout

## What a correct rollout without calls earns. Reward; 1 (the paper).
param alpha = 1.0 in [0, inf]
## Smoothing: how slowly calls are punished. In calls; 1 (a third-party implementation).
param c = 1.0 in [0, inf]
## Discount of the reward per token. No unit; 1.0 (verl).
param gamma = 1.0 in [0, 1]
## Decay of GAE's errors per token. No unit; 1.0 (verl).
param lam = 1.0 in [0, 1]
## Weight of the critic's loss. No unit; 1.0 (verl trains the critic on its own); at 0 no critic is trained.
param value_coef = 1.0 in [0, inf]
## How far the critic may move in one batch before its gradient stops. In the unit of the reward; 0.5 (verl).
param value_clip = 0.5 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (Search-R1).
param beta = 0.001 in [0, inf]

# A rollout without calls also where c is 0.
rtool  = if m == 0 then 1 else cos(m * pi / (2 * m + c))
reward = if correct then alpha * rtool else 0

paid  = if is_last(token in rollout) then reward else 0
delta = paid + gamma * next(old_value, 0 in rollout) - old_value
gae   = discounted(delta, gamma * lam in rollout)
## What the critic is to predict, in the unit of the reward.
ret   = gae + old_value
## Credit of a token, in standard deviations of the batch's.
advantage = batch_norm(gae)

near       = old_value + clip(value - old_value, -value_clip, value_clip)
value_loss = if value_coef == 0 then 0 else value_coef * max((value - ret) ^ 2, (near - ret) ^ 2) / 2
token_loss = base.token_loss + value_loss

## Tool calls per rollout.
metric calls  = mean(real(m))
## What the correct rollouts' calls left of their reward.
metric thrift = mean(rtool where correct)
