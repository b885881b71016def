# RED-Weight: Group-Relative REINFORCE on reweighted data.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# Good rollouts weigh exponentially more: shaping the data takes the place of clipping.
#
#     L = sum_t -A_i exp(A_i / temp) logp_t / (number of tokens in the batch)      A_i = R_i - mean_G R
#
# Family: off-policy.
# Confidence: exact from code.

extend rec

## Temperature of the weights. In the unit of the advantage; 1.0 (Trinity-RFT).
param temp = 1.0

weight = exp(advantage / temp)

## Largest weight of a rollout.
metric max_weight = max(weight)
