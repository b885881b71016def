# DPPO-KL: policy optimisation with a divergence mask, binary KL.
# verl, policy loss "dppo_kl"; arXiv 2602.04879.
#
# What is bounded is the KL between the two distributions over "this token" and "any other".
#
#     k_t    = q (log q - log p) + (1 - q) log((1 - q + 1e-8) / (1 - p + 1e-8))
#     keep_t = k_t <= high or p <= q where A > 0, k_t <= low or p >= q elsewhere
#     L      = sum_t -A_t sg[min(r_t, c)] logp_t keep_t / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: as in dppo_tv.

extend dppo_tv

## Largest binary KL of a token whose probability fell, without a positive advantage. Nats; 0.2 (verl,
## clip_ratio_low).
param clip_low = 0.2 in [0, inf]
## Largest binary KL of a token whose probability rose, with a positive advantage. Nats; 0.2 (verl,
## clip_ratio_high).
param clip_high = 0.2 in [0, inf]

p         = exp(logp)
q         = exp(old_logp)
binary_kl = q * (old_logp - logp) + (1 - q) * log((1 - q + 1e-8) / (1 - p + 1e-8))
kept      = if advantage > 0 then binary_kl <= clip_high or p <= q else binary_kl <= clip_low or p >= q
