# REC: Group-Relative REINFORCE, the base of its family.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# Group-relative REINFORCE is an off-policy method by itself; what makes it stable is which tokens a gate
# lets through and how rollouts are weighted, not the importance ratio.
#
#     A_i = R_i - mean_G R
#     l_t = -A_i weight_t logp_t gate_t - forward_kl logp_t + k2 d_t^2      d_t = logp_t - old_logp_t
#     L   = sum_t l_t / (number of tokens in the batch)
#
# The member without gate and weight: vanilla REINFORCE with the group's mean. The others:
# rec_oneside_nois, rec_oneside_is, rec_twoside_is, rec_ring_nois, rec_gspo_nois, rec_gspo_is,
# red_weight, red_drop.
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: The code's singleton branch reads an undefined name; here a group of one has A = 0. Its k2
# absorbs the half of (1/2) d^2 into the coefficient, and so does `k2` here. The paper's AsymRE is
# forward_kl = 0.1, its OPMD k2 = 0.1.

extend bnpo

## Whether the advantage is divided by the population std of the group (+ 1e-6). false (Trinity-RFT).
param std_normalize = false
## Weight of the forward KL to the sampling policy. Loss per nat; 0.0 (Trinity-RFT).
param forward_kl    = 0.0
## Weight of the squared log-ratio. Loss per nat^2; 0.0 (Trinity-RFT).
param k2            = 0.0

advantage = if std_normalize then group_norm_pop(reward) else center(reward)
## Whether a token takes part.
gate      = true
## Importance of a token, without gradient.
weight    = 1.0
surrogate = if gate then advantage * weight * logp else 0
## Pull towards the sampling policy.
regularizer = -(if forward_kl == 0 then 0 else forward_kl * logp)
  + (if k2 == 0 then 0 else k2 * (logp - old_logp) ^ 2)
token_loss = base.token_loss + regularizer

## Share of the tokens that the gate keeps out.
metric clip_fraction = token_mean(not gate)
