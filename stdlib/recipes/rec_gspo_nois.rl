# REC-GSPO-NoIS: Group-Relative REINFORCE with GSPO's clip and no ratio.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# The one-sided gate belongs to the rollout: its ratio is the geometric mean of its tokens'.
#
#     s_i    = exp(mean_t d_t)
#     gate_i = (A_i >= 0 and s_i <= 1 + high) or (A_i <= 0 and s_i >= 1 - low)
#     L      = mean_i mean_t -A_i logp_t gate_i
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: With this gate the code averages over tokens, then over rollouts.

extend rec_oneside_nois

## How far the rollout's ratio may fall below 1. No unit; 3e-4 (the authors' configuration, as GSPO).
param clip_low  = 3e-4
## How far the rollout's ratio may rise above 1. No unit; 4e-4 (the authors' configuration, as GSPO).
param clip_high = 4e-4

ratio = exp(mean(logp - old_logp per rollout))
loss  = seq_mean(token_loss)
