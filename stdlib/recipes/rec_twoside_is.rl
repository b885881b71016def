# REC-TwoSide-IS: Group-Relative REINFORCE with a clip on both sides.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# Tokens whose ratio left the interval do not take part, whatever the sign of their advantage.
#
#     gate_t = 1 - low <= r_t <= 1 + high
#     L      = sum_t -A_i sg[r_t] logp_t gate_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: With the ratio as weight, as the authors' configuration; `weight = 1.0` is REC-TwoSide-NoIS.

extend rec

gate   = ratio >= 1 - clip_low and ratio <= 1 + clip_high
weight = detach(ratio)
