# APO-zero: Anchored Preference Optimization.
# Karel D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions: Addressing
# Underspecification in Alignment", 2024, arXiv 2408.06266.
#
# The chosen rollout's likelihood rises and the rejected one's falls, each against the reference; for
# chosen rollouts that are better than what the model writes.
#
#     L = mean over pairs of 1 - sigmoid(beta a) + sigmoid(beta z)
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

pair_loss = 1 - sigmoid(beta * chosen) + sigmoid(beta * rejected)
