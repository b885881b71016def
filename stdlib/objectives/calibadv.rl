# CalibAdv: calibrated advantages in GRPO for deep search.
# "Calibrating (negative) advantages in GRPO for deep search", arXiv 2604.18235.
#
# A wrong rollout is not wrong in every turn: correct turns of a failed rollout are punished less, and
# the answers of a group gain as much as they lose.
#
#     A_t = A_i (1 - q_s)            where A_i < 0, in turns before the last
#     A_t = A_i lam N_g / P_g        where A_i > 0, in last turns (P, N: token sums there, per group)
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: The paper exactly: verl's group norm (eps 1e-6), token mean, no KL. The code's switches, all off by
# default, are in `calibadv_full`; `calibadv_docs` computes the correctness of a step from its documents.

extend bnpo

## Positive over negative mass in the answers. No unit; 1.0 (the paper; below 1 it collapsed).
param lam = 1.0

## Credit of a token, in standard deviations of the group's rewards, calibrated per turn.
advantage = calib(group_norm_verl(reward), step_correct, lam)
