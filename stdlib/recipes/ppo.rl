# PPO with a value function and GAE.
# John Schulman et al., "Proximal Policy Optimization Algorithms", 2017, arXiv 1707.06347, and
# "High-Dimensional Continuous Control Using Generalized Advantage Estimation", 2015, arXiv 1506.02438.
#
# A critic predicts the return of every token, and the advantage is what the rewards add to it.
#
#     u_t = [t last] R_i - kl_coef (old_logp_t - ref_logp_t)          V: old_value      v: value
#     g_t = u_t + gamma V_{t+1} - V_t + gamma lam g_{t+1}             A_t = whiten_B(g_t)
#     l_t = -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t)           where A_t < 0: min(l_t, -c A_t)
#     L   = mean_B l_t + vf_coef mean_B max((v - ret)^2, (clip(v, V - c_v, V + c_v) - ret)^2) / 2
#     ret = g + V
#
# Family: baseline.
# Confidence: exact from code.
# Choices: verl's defaults. Masked tokens are passed over (OpenRLHF's GAE does not), the last kept token has
# the reward, whitening divides by sqrt(var + 1e-8) with n - 1. verl trains the critic by itself, which is
# vf_coef 1; TRL has one model and 0.1. The KL is in the reward and off, as in verl; TRL has 0.05.
# To train: a value head (`token/value`) and its recorded values (`token/old_value`).

extend bnpo

## Discount per token. No unit; 1.0 (verl, TRL).
param gamma = 1.0 in [0, 1]
## GAE's lambda. No unit; 1.0 (verl; TRL: 0.95).
param lam = 1.0 in [0, 1]
## Price of the KL to the reference policy. Reward per nat; 0.0 (verl; TRL: 0.05). At 0 no reference is
## needed.
param kl_coef = 0.0 in [0, inf]
## The largest push of a negative advantage. A ratio, no unit; 3.0 (verl, clip_ratio_c).
param clip_ratio_c = 3.0 in [1, inf]
## How far a value may move. In the unit of the reward; 0.5 (verl, cliprange_value; TRL: 0.2).
param cliprange_value = 0.5 in [0, inf]
## Weight of the critic's loss. No unit; 1.0 (verl, a critic of its own; TRL: 0.1).
param vf_coef = 1.0 in [0, inf]

## What a token is paid, in the unit of the reward.
token_kl  = if kl_coef == 0 then 0 else kl_coef * kl_k1(old_logp, ref_logp)
paid      = (if is_last(token in rollout) then reward else 0) - token_kl
surprise  = paid + gamma * next(old_value, 0 in rollout) - old_value
gae       = discounted(surprise, gamma * lam in rollout)
## What the critic should have said, in the unit of the reward.
ret       = gae + old_value
## Credit of a token, in standard deviations of the batch's GAE.
advantage = batch_norm(gae)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)

bounded    = clip(value, old_value - cliprange_value, old_value + cliprange_value)
value_loss = token_mean(max((value - ret) ^ 2, (bounded - ret) ^ 2)) / 2
loss       = base.loss + vf_coef * value_loss

## Mean squared error of the critic, halved.
metric critic_loss = value_loss
