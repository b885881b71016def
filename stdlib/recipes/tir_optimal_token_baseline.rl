# TIR-OTB: Optimal Token Baseline for tool-integrated reasoning.
# verl, adv_estimator "tir_optimal_token_baseline".
#
# The optimal token baseline with masked tokens taken out of each rollout before positions are compared.
#
#     place_t = number of kept tokens of the rollout before t          A as in optimal_token_baseline
#
# Family: advantage.
# Confidence: exact from code.
# To train: `token/sum_pi_squared`, the sum of squared probabilities under the policy that sampled.

extend optimal_token_baseline

place = index(token in rollout)
