# REINFORCE++ as in OpenRLHF.
# OpenRLHF, advantage estimator "reinforce"; Jian Hu et al., "REINFORCE++: A Simple and Efficient Approach
# for Aligning Large Language Models", 2025, arXiv 2501.03262.
#
# Discounted returns of a reward that pays for the KL token by token, normalised over the batch.
#
#     u_t = [t last] clip(R_i, -10, 10) - kl_coef clip(old_logp_t - ref_logp_t, -10, 10)
#     G_t = u_t + gamma G_{t+1}          A_t = (G_t - mean_B G) / sqrt(max(var_B G, 1e-8))
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: the population variance, as in OpenRLHF, and the reward with the last kept token.

extend bnpo

## Discount per token. No unit; 1.0 (OpenRLHF).
param gamma = 1.0 in [0, 1]
## Price of the KL to the reference policy. Reward per nat; 0.01 (OpenRLHF, init_kl_coef).
param kl_coef = 0.01 in [0, inf]
## Largest reward and smallest, negated. In the unit of the reward; 10.0 (OpenRLHF).
param reward_clip = 10.0 in [0, inf]

token_kl  = if kl_coef == 0 then 0 else kl_coef * clip(kl_k1(old_logp, ref_logp), -10, 10)
paid      = (if is_last(token in rollout) then clip(reward, -reward_clip, reward_clip) else 0) - token_kl
## Discounted return of a token.
ret       = discounted(paid, gamma in rollout)
## Credit of a token, in standard deviations of the batch's returns.
advantage = (ret - mean(ret)) / sqrt(max(var(ret, ddof = 0), 1e-8))
