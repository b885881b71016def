# OTB: Optimal Token Baseline.
# verl, adv_estimator "optimal_token_baseline".
#
# Every position has a baseline of its own: returns of the group's rollouts that are still going, weighed by
# the variance their gradients have gathered up to there.
#
#     w_t = 1 - 2 exp(old_logp_t) + sum_pi_squared_t          W_t = w_0 + ... + w_t
#     B_t = sum_{i in G, alive at t} G_{i,t} W_{i,t} / (sum W_{i,t} + 1e-8)          G: return-to-go
#     A_t = G_t - B_t          B_t = 0 for the single longest rollout beyond the second-longest length
#     L   = sum_t -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t) / (number of tokens in the batch)
#
# Family: advantage.
# Confidence: exact from code.
# Choices: as in verl rollouts are aligned by their position, masked tokens included, while lengths are numbers
# of kept tokens (tir_optimal_token_baseline closes the gaps first). In a group of one B is 0.
# `is_weighted = true` multiplies w by the square of the capped sampler weight, as verl does with rollout
# correction.
# To train: `token/sum_pi_squared`, the sum of squared probabilities under the policy that sampled.

extend bnpo

## Sum over the vocabulary of the squared probabilities of the policy that sampled. No unit, in (0, 1].
input sum_pi_squared : real @ token

## Whether rewards come per token, from `token_reward`. Off.
param per_token = false
## Whether the variance is weighed by the sampler's mismatch. Off (verl: where rollout_is is set).
param is_weighted = false
## Largest sampler weight. A ratio, no unit; 2.0 (verl, rollout_is_threshold).
param is_cap = 2.0 in [0, inf]

place    = position
key slot = (group, place)

## Return of a token: what the rollout still gets, undiscounted.
ret       = if per_token then rcumsum(token_reward in rollout) else reward @ token
is_weight = if is_weighted then min(exp(old_logp - sampler_logp), is_cap) else 1
## Variance of the score function gathered up to a token. No unit.
energy    = cumsum((1 - 2 * exp(old_logp) + sum_pi_squared) * is_weight ^ 2 in rollout)

size      = count(token per rollout)
longest   = max(size per group)
second    = max(size, default = 0 where not top(size, 1 in group) per group)
## Whether only this rollout is long enough to have a token here.
tail      = size == longest and longest > second and place >= second
alone     = count(rollout per group) == 1 or tail
## What rollouts of the group get from this position on, by gathered variance.
baseline  = if alone then 0 else sum(ret * energy per slot) / (sum(energy per slot) + 1e-8)
## Credit of a token, in the unit of the reward.
advantage = ret - baseline
