# REC-GSPO-IS: Group-Relative REINFORCE with GSPO's clip and ratio.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# GSPO's gate and ratio, the latter as a constant weight: GSPO written as REINFORCE.
#
#     L = mean_i mean_t -A_i sg[s_i] logp_t gate_i          s, gate as in rec_gspo_nois
#
# Family: off-policy.
# Confidence: exact from code.

extend rec_gspo_nois

weight = detach(ratio)
