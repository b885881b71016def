# GEPO: Group Equivalent Preference Optimization, with OORL's on-policy loss.
# Haoyuan Wu et al., "On-Policy Optimization with Group Equivalent Preference for Multi-Programming
# Language Understanding", 2025, arXiv 2505.12723.
#
# Equivalent rollouts of a group should be preferred to the inequivalent ones, and equally: the implicit
# rewards of the winners lie above the losers' and close together.
#
#     h_i = beta sum_t (logp_t - ref_logp_t)
#     L_p = mean_G [ -log sigmoid(mean_W h - mean_L h) + lam var_W h ]          W winners, L losers of G
#     L   = w_rl L_rl + w_gepo L_p          L_rl as in reinforce_pp
#
# Family: preferences.
# Confidence: exact from paper.
# Choices: The equations' images were not read: the variance has ddof 0 and beta inside it. beta = 0.1 is
# ours. A group that lacks winners or losers has no preference and does not count in the mean. The paper
# trains on two sets of rows; `group/role` tells them apart, and without it every group is in both.
# To train: a sampler that puts preference groups beside on-policy ones and records `rollout/winner` and
# `group/role`.

extend reinforce_pp

## Weight of the KL penalty in the on-policy loss. Loss per nat; 0.0.
param beta_rl = 0.0
## Scale of the implicit reward. Reward per nat; 0.1 (ours).
param beta    = 0.1
## Weight of the winners' variance. No unit; 1.0 (the paper).
param lam     = 1.0
## Weight of the on-policy loss. No unit; 1.0 (the paper).
param w_rl    = 1.0
## Weight of the preference loss. No unit; 0.01 (the paper).
param w_gepo  = 0.01

## Whether the rollout is one of its group's equivalent ones.
input winner : bool @ rollout
## What the group is for: 0 both losses, 1 the on-policy loss, 2 the preference loss.
input role : int @ group = 0

online  = role != 2
penalty = if beta_rl == 0 then 0 else beta_rl * kl_k3(logp, ref_logp)
# Whitened over the on-policy tokens alone.
advantage = (ret - mean(ret where online)) / sqrt(var(ret where online) + 1e-8)
rl_loss   = mean(token_loss where online)

## Implicit reward of a rollout, in the unit of the reward.
implicit = beta * sum(logp - ref_logp per rollout)
## Whether the group has a preference.
judged   = role != 1 and any(winner per group) and any(not winner per group)
lead     = mean(implicit where winner per group) - mean(implicit where not winner per group)
spread   = var(implicit, ddof = 0 where winner per group)
gepo     = mean(lam * spread - log_sigmoid(lead) where judged)
loss     = w_rl * rl_loss + w_gepo * gepo

## Share of the on-policy tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where online)
## Share of the preferences in which the winners lead.
metric preferred     = mean(lead > 0 where judged)
## Loss of the preferences.
metric gepo          = gepo
