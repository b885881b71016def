# IPO: Identity Preference Optimization.
# Mohammad Gheshlaghi Azar et al., "A General Theoretical Paradigm to Understand Learning from Human
# Preferences", 2023, arXiv 2310.12036.
#
# The margin is drawn to a target instead of to infinity, so that certain preferences do not overfit.
#
#     a, z = sum_t (logp_t - ref_logp_t) of the chosen and of the rejected
#     L    = mean over pairs of (a / n_a - z / n_z - 1 / (2 beta))^2
#
# Family: preferences.
# Confidence: exact from code.
# Choices: TRL averages the log-ratios over tokens (`per_token = true`, the default; its authors confirmed it
# with the paper's); OpenRLHF sums them as the paper prints it (`per_token = false`).

extend dpo

## Whether log-ratios are averaged over the tokens of a rollout. On (TRL; OpenRLHF: off).
param per_token = true

score     = if per_token then mean(token_score per rollout) else sum(token_score per rollout)
pair_loss = (margin - 1 / (2 * beta)) ^ 2
