# REC-OneSide-IS: Group-Relative REINFORCE with PPO's clip and ratio.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# PPO's gate with the ratio as a weight: GRPO's gradient, written as REINFORCE.
#
#     L = sum_t -A_i sg[r_t] logp_t gate_t / (number of tokens in the batch)      gate as in rec_oneside_nois
#
# Family: off-policy.
# Confidence: exact from code.

extend rec_oneside_nois

weight = detach(ratio)
