# DisCO-b: Discriminative Constrained Optimization, the basic form.
# Gang Li et al., "DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained
# Optimization", 2025, arXiv 2505.12366.
#
# Wrong rollouts count alike, by their plain mean.
#
#     J = (1 / Q) sum_{G with both} ( mean_pos s - mean_neg s )          L as in disco
#
# Family: off-policy.
# Confidence: exact from code.
# To train: rewards of 0 and 1; others take no part.

extend disco

rivals = mean(score where negative per group)
