# REINFORCE++ as in OpenRLHF.
# OpenRLHF, advantage estimators "reinforce", "reinforce_baseline" and "rloo"; Jian Hu et al., "REINFORCE++: A Simple and Efficient Approach
# for Aligning Large Language Models", 2025, arXiv 2501.03262.
#
# Discounted returns of a reward that pays for the KL token by token, normalised over the batch.
#
#     u_t = [t last] clip(R_i - b_i, -10, 10) - kl_coef clip(old_logp_t - ref_logp_t, -10, 10)
#     G_t = u_t + gamma G_{t+1}          A_t = (G_t - mean_B G) / sqrt(max(var_B G, 1e-8))
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: the population variance, as in OpenRLHF, and the reward with the last kept token. b is 0, the
# group's mean (`baseline = 1`: "reinforce_baseline") or that of its other rollouts (`baseline = 2`: "rloo",
# which is not normalised, so A = G). A group of one has b = 0 under "rloo", where OpenRLHF divides by 0.

extend bnpo

## What the reward is compared with: 0 nothing, 1 the group's mean, 2 the mean of the group's others, without
## normalisation. 0 ("reinforce").
param baseline = 0 in [0, 2]
## Discount per token. No unit; 1.0 (OpenRLHF; it insists on 1 with a baseline).
param gamma = 1.0 in [0, 1]
## Price of the KL to the reference policy. Reward per nat; 0.01 (OpenRLHF, init_kl_coef).
param kl_coef = 0.01 in [0, inf]
## Largest reward and smallest, negated. In the unit of the reward; 10.0 (OpenRLHF).
param reward_clip = 10.0 in [0, inf]

token_kl  = if kl_coef == 0 then 0 else kl_coef * clip(kl_k1(old_logp, ref_logp), -10, 10)
compared  = if baseline == 1 then center(reward) else if baseline == 2 then leave_one_out(reward) else reward
outcome   = clip(compared, -reward_clip, reward_clip)
paid      = (if is_last(token in rollout) then outcome else 0) - token_kl
## Discounted return of a token.
ret       = discounted(paid, gamma in rollout)
## Credit of a token, in standard deviations of the batch's returns ("rloo": in the unit of the reward).
advantage = if baseline == 2 then ret else (ret - mean(ret)) / sqrt(max(var(ret, ddof = 0), 1e-8))
