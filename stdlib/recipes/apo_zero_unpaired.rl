# APO-zero, unpaired.
# Karel D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions: Addressing
# Underspecification in Alignment", 2024, arXiv 2408.06266.
#
# KTO without its reference point: likelihoods rise or fall against the reference policy alone.
#
#     L = mean_i of w_c (1 - sigmoid(beta x_i)) where i is chosen, w_r sigmoid(beta x_i) elsewhere
#
# Family: preferences.
# Confidence: exact from code.

extend kto

reference_point = 0
