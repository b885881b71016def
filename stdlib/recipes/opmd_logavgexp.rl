# OPMD: Online Policy Mirror Descent with the log-average-exp baseline, as in Trinity-RFT.
# Trinity-RFT, "Trinity-RFT: A General-Purpose and Unified Framework for Reinforcement Fine-Tuning of
# Large Language Models", 2025, arXiv 2505.17826.
#
# The baseline is the soft maximum of the group's rewards, the value of the best policy near the sampling
# one: most rollouts fall below it.
#
#     b_G = tau (logsumexp_G (R / tau) - log |G|)          A, L as in opmd
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: A group of one has the baseline 0.

extend opmd

## The best reward of the group. Taken out first, so that equal rewards give an advantage of exactly 0.
best     = max(reward per group)
baseline = best + tau * (logsumexp((reward - best) / tau per group) - log(count(reward per group)))
