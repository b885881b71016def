# CPO: Contrastive Preference Optimization.
# Haoran Xu et al., "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in
# Machine Translation", 2024, arXiv 2401.08417.
#
# DPO with a uniform reference, held to the chosen data by its likelihood.
#
#     x = sum_t logp_t of each side
#     L = mean over pairs of -log sigmoid(beta (x_c - x_r)) + alpha NLL          NLL: mean over chosen tokens
#
# Family: preferences.
# Confidence: exact from code.
# Choices: the likelihood is averaged over all chosen tokens of the batch, as TRL does. `alpha` 0 leaves the
# contrastive part.

extend dpo

## Weight of the likelihood of the chosen. No unit; 1.0 (TRL, cpo_alpha).
param alpha = 1.0 in [0, inf]

score = sum(logp per rollout)
## Negative log-likelihood of a chosen token, in nats.
nll   = -mean(logp where is_chosen @ token)
loss  = mean(pair_loss) + alpha * nll
