# PPO as in OpenRLHF.
# OpenRLHF, advantage estimator "gae"; John Schulman et al., "Proximal Policy Optimization Algorithms", 2017,
# arXiv 1707.06347.
#
# GAE runs over every token, observations included; only the policy's own tokens are normalised over and trained
# on.
#
#     u_t = [t last of m] clip(R_i, -10, 10) - kl_coef clip(old_logp_t - ref_logp_t, -10, 10)
#     g_t = u_t + gamma V_{t+1} - V_t + gamma lam g_{t+1}          t: all tokens of the rollout
#     A_t = (g_t - mean_m g) / sqrt(max(var_m g, 1e-8))            m: the policy's tokens, population variance
#     L   = mean_m -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) + vf_coef critic
#
# Family: baseline.
# Confidence: exact from code.
# Choices: the reward comes with the policy's last token, and observations pay no KL. There is no second clip. The
# critic's loss is ppo's.
# To train: a value head (`token/value`) and its recorded values (`token/old_value`), also on observations.

extend ppo

## Price of the KL to the reference policy. Reward per nat; 0.01 (OpenRLHF, init_kl_coef).
param kl_coef = 0.01 in [0, inf]
## Largest reward and smallest, negated. In the unit of the reward; 10.0 (OpenRLHF).
param reward_clip = 10.0 in [0, inf]

# Observations stay, for the GAE; what is trained on is chosen below.
loss_mask = true

token_kl  = if kl_coef == 0 then 0 else kl_coef * clip(kl_k1(old_logp, ref_logp), -10, 10)
final     = position == max(position, default = -1 where mask per rollout)
outcome   = if final then clip(reward, -reward_clip, reward_clip) else 0
paid      = outcome - (if mask then token_kl else 0)
above     = gae - mean(gae where mask)
## Credit of a token, in standard deviations of the GAE of the policy's tokens.
advantage = above / sqrt(max(var(gae, ddof = 0 where mask), 1e-8))
surrogate = clipped(ratio, advantage, clip_low, clip_high)

value_loss = mean(max((value - ret) ^ 2, (bounded - ret) ^ 2) where mask) / 2
loss       = mean(token_loss where mask) + vf_coef * value_loss

## Share of the policy's tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where mask)
## KL(sampling policy || current policy) per token, estimated by k1, in nats.
metric approx_kl     = mean(old_logp - logp where mask)
