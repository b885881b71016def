# SimPO: Simple Preference Optimization.
# Yu Meng et al., "SimPO: Simple Preference Optimization with a Reference-Free Reward", 2024, arXiv
# 2405.14734.
#
# The reward is the mean log-probability, as in generation, and the chosen one must win by a margin.
#
#     x = mean_t logp_t of each side          L = mean over pairs of -log sigmoid(beta (x_c - x_r) - gamma)
#
# Family: preferences.
# Confidence: exact from code.
# Choices: beta and gamma of TRL's CPOTrainer (0.1, 0.5); the paper tunes beta in 2 to 10 and gamma / beta
# in 0.3 to 1.6.

extend dpo

## How much a nat per token is worth. Per nat; 0.1 (TRL, beta; the paper 2.0 to 10).
param beta = 0.1 in [0, inf]
## The margin gamma by which the chosen rollout must win. In units of beta times nats; 0.5 (TRL,
## simpo_gamma).
param gamma = 0.5 in [0, inf]

score     = mean(logp per rollout)
pair_loss = -log_sigmoid(beta * margin - gamma)
