# A*-PO: Optimal Advantage Regression.
# "Accelerating RL for LLM Reasoning with Optimal Advantage Regression", 2025, arXiv 2505.20686.
#
# The optimal value of each prompt is estimated offline from the reference policy's rewards; then the
# log-ratio is regressed on the optimal advantage.
#
#     V* = beta_1 log mean exp(R / beta_1)          over rewards of reference rollouts, per prompt
#     L  = mean_i (beta_2 sum_t (logp_t - ref_logp_t) - (R_i - V*))^2
#
# Family: preferences.
# Confidence: exact from code.
# To train: `group/v_star`, the prompt's optimal value, estimated beforehand.

extend nothing

## The prompt's optimal value, estimated from the reference policy, in the unit of the reward.
input v_star : real @ group

## Weight of the KL in the regression. Reward per nat; 1e-3 (the paper; TRL, beta2).
param beta2 = 1e-3 in [0, inf]

## The tokens whose log-probabilities count.
loss_mask = mask
keep token where loss_mask

## The optimal advantage, in the unit of the reward.
advantage       = reward - v_star
## The rollout's implicit reward, in the unit of the reward.
implicit_reward = beta2 * sum(logp - ref_logp per rollout)
loss            = mean((implicit_reward - advantage) ^ 2)

minimize loss

## Mean implicit reward, in the unit of the reward.
metric mean_implicit_reward = mean(implicit_reward)
