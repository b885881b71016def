# DisCO with the likelihood-ratio score.
# Gang Li et al., "DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained
# Optimization", 2025, arXiv 2505.12366.
#
# A rollout's score is the mean of its tokens' ratios in place of their log-probs.
#
#     s_i = mean_t exp(logp_t - old_logp_t)          tau 1; L as in disco
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: At the version read the code sends this score to the basic form with an argument it does not
# take, and fails; this is the form it names.
# To train: rewards of 0 and 1; others take no part.

extend disco

## Temperature of the soft maximum over wrong rollouts. In the unit of the score; 1.0 (the code, for the
## ratio score).
param tau = 1.0

## Probability of the token under the current policy over that under the one that sampled it.
ratio = exp(logp - old_logp)
score = mean(ratio per rollout)
