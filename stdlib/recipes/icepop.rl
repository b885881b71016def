# IcePop: masking of the sampler's mismatch.
# Ling Team, "Every Step Evolves: Scaling Reinforcement Learning for Trillion-Scale Thinking Model", 2025,
# arXiv 2510.18855; OpenRLHF, icepop; TRL, token_mask.
#
# Tokens on which sampler and trainer disagree too much are left out, the others weighed by their ratio.
#
#     x_t = exp(old_logp_t - sampler_logp_t)          u_t = x_t where lo <= x_t <= hi, else 0
#     L   = sum_t [ beta k3_t - u_t min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / N
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: the denominator counts masked tokens too. Bounds are the paper's and OpenRLHF's, 0.5 and 5; TRL's
# token_mask has none below and 3 above.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend tis

## Largest ratio that is kept. No unit; 5.0 (the paper; OpenRLHF).
param is_cap = 5.0 in [0, inf]
## Smallest ratio that is kept. No unit; 0.5 (the paper; OpenRLHF).
param is_floor = 0.5 in [0, inf]

sampler_weight = if mismatch >= is_floor and mismatch <= is_cap then mismatch else 0
