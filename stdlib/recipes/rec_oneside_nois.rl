# REC-OneSide-NoIS: Group-Relative REINFORCE with PPO's clip and no ratio.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# PPO's gate without PPO's ratio: what keeps GRPO stable off-policy is the clip, not the importance
# sampling.
#
#     gate_t = (A_i >= 0 and r_t <= 1 + high) or (A_i <= 0 and r_t >= 1 - low)
#     L      = sum_t -A_i logp_t gate_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.

extend rec

gate = (advantage >= 0 and ratio <= 1 + clip_high) or (advantage <= 0 and ratio >= 1 - clip_low)
