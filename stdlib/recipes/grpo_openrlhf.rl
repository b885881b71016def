# GRPO as in OpenRLHF.
# OpenRLHF, advantage estimator "group_norm" with the policy loss "ppo".
#
# The group norm with hardly any eps, and one mean over all tokens of the batch.
#
#     A_i = (R_i - mean_G R) / (std_G R + 1e-9)          r_t = exp(clip(logp_t - old_logp_t, -20, 20))
#     L   = sum_t [ beta k3_t - min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: k3 is clamped to [-10, 10], as there. A group of one gives 0 (OpenRLHF wants several samples
# per prompt). Equal rewards that rounding tells apart are blown up by so small an eps: `grpo` has 1e-4.

extend bnpo

## Added to the group's deviation. In the unit of the reward; 1e-9 (OpenRLHF).
param eps = 1e-9 in [0, inf]

advantage = group_norm(reward, eps)
ratio     = exp(clip(logp - old_logp, -20, 20))
penalty   = if beta == 0 then 0 else beta * clip(kl_k3(logp, ref_logp), -10, 10)
