# DPPO-TV: policy optimisation with a divergence mask, total variation.
# verl, policy loss "dppo_tv"; arXiv 2602.04879.
#
# What is bounded is how far a token's probability has moved, not by what factor, so that rare tokens may
# change much.
#
#     keep_t = p_t - q_t <= high where A > 0, p_t - q_t >= -low elsewhere          p, q: exp(logp), exp(old_logp)
#     L      = sum_t -A_t sg[min(r_t, c)] logp_t keep_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: the log-ratio is not bounded at -20 below as in verl, where the ratio is 2e-9. The bound c is verl's
# fallback for this loss, 20; its config for all losses says 3.

extend bnpo

## How far a probability may fall before a token without a positive advantage stops pushing. No unit; 0.2 (verl,
## clip_ratio_low).
param clip_low = 0.2 in [0, 1]
## How far a probability may rise before a positive advantage stops pushing. No unit; 0.2 (verl,
## clip_ratio_high).
param clip_high = 0.2 in [0, inf]
## The largest importance weight. A ratio, no unit; 20.0 (verl, clip_ratio_c for this loss).
param ratio_max = 20.0 in [0, inf]

moved     = exp(logp) - exp(old_logp)
kept      = if advantage > 0 then moved <= clip_high else moved >= -clip_low
surrogate = if kept then detach(min(ratio, ratio_max)) * advantage * logp else 0

## Share of the tokens whose gradient the mask takes away.
metric clip_fraction = token_mean(not kept)
