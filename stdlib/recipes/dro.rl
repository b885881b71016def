# DRO: Direct Reward Optimization.
# verl, policy loss "dro"; Pierre Harvey Richemond et al., "Offline Regularised Reinforcement Learning for
# Large Language Models Alignment", 2024, arXiv 2405.19107.
#
# No ratio and no clip: a quadratic price on the log-ratio keeps the policy near.
#
#     L = sum_t -(A_i logp_t - beta / 2 (logp_t - old_logp_t)^2) / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: verl has no default for beta and asks for a positive one; 0.05 here. The price is paid to the policy
# that sampled, as in verl and Tinker.

extend bnpo

## Price of the squared log-ratio. Loss per nat squared; 0.05 (verl, dro_beta: none).
param beta = 0.05 in [0, inf]

surrogate = advantage * logp
penalty   = beta * kl_k2(logp, old_logp)

## Mean price of a token.
metric price = token_mean(penalty)
## Share of the tokens whose gradient a clip takes away: there is no clip.
metric clip_fraction = 0
