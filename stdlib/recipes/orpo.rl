# ORPO: Odds Ratio Preference Optimization.
# Jiwoo Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model", 2024, arXiv
# 2403.07691.
#
# Supervised fine-tuning on the chosen, with a penalty on the odds of the rejected.
#
#     x = mean_t logp_t          log odds = x - log(1 - exp x)
#     L = NLL - lambda mean over pairs of log sigmoid(log odds_c - log odds_r)
#
# Family: preferences.
# Confidence: exact from code.
# Choices: NLL is the mean over all chosen tokens of the batch. TRL counts the prompt's tokens in it too; a
# batch here holds completions only.

extend dpo

## Weight lambda of the odds ratio. No unit; 0.1 (the paper; TRL, beta).
param beta = 0.1 in [0, inf]

size      = mean(logp per rollout)
## Log-odds of a rollout by its mean log-probability.
score     = size - log1mexp(size)
## Negative log-likelihood of a chosen token, in nats.
nll       = -mean(logp where is_chosen @ token)
pair_loss = -log_sigmoid(margin)
loss      = nll + beta * mean(pair_loss)
