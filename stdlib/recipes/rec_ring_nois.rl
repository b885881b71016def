# REC-Ring-NoIS: Group-Relative REINFORCE with a ring-shaped gate.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# Beside the tokens near the sampling policy, those far out take part again where the gradient brings them
# back.
#
#     gate_t = (1 - low <= r_t <= 1 + high) or (A_i >= 0 and r_t <= 1 - low_outer)
#              or (A_i <= 0 and r_t >= 1 + high_outer)
#     L      = sum_t -A_i logp_t gate_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: The outer bounds are those of the authors' configuration (0.6 and 2.0, also the code's
# default_args); the class signature has 0.4 and 0.4. `weight = detach(ratio)` is the variant with IS.

extend rec

## How far below 1 the ratio must lie to take part again. No unit; 0.6 (Trinity-RFT).
param low_outer  = 0.6
## How far above 1 the ratio must lie to take part again. No unit; 2.0 (Trinity-RFT).
param high_outer = 2.0

near      = ratio >= 1 - clip_low and ratio <= 1 + clip_high
far_below = advantage >= 0 and ratio <= 1 - low_outer
far_above = advantage <= 0 and ratio >= 1 + high_outer
gate      = near or far_below or far_above

## Share of the tokens that the outer ring lets through.
metric outer_ring = token_mean((far_below or far_above) and not near)
