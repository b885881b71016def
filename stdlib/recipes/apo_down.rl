# APO-down: Anchored Preference Optimization.
# Karel D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions: Addressing
# Underspecification in Alignment", 2024, arXiv 2408.06266.
#
# Both likelihoods fall, the rejected one's more; for chosen rollouts that are worse than what the model
# writes.
#
#     L = mean over pairs of sigmoid(beta a) + 1 - sigmoid(beta D)
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

pair_loss = sigmoid(beta * chosen) + 1 - sigmoid(beta * margin)
