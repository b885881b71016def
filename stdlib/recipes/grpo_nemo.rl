# GRPO as in NeMo-RL.
# NVIDIA-NeMo/RL, GRPOAdvantageEstimator and ClippedPGLoss with their defaults.
#
# A rollout is compared with the others of its group: their mean is the baseline, their deviation the scale,
# and where they do not differ nothing divides.
#
#     b_i = mean_{j != i} R_j          s_i = std_{j != i} R_j
#     A_i = (R_i - b_i) / (s_i + 1e-6) where s_i > 0, else R_i - b_i
#     L   = sum_t [ beta k_t - min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / (number of tokens in the batch)
#     k_t = k3_t exp(logp_t - sg[logp_t])
#
# Family: baseline.
# Confidence: exact from code.
# Choices: s is a sample std (the number of others less 1), so a group of two has none and is not divided; a
# group of one gives 0. The code takes s from a difference of second moments, in which rounding can leave a
# spread of equal rewards; here that spread is exactly 0. The factor of k3 is 1 with the gradient of the
# sampling probability, which makes k3's gradient that of k2; k3 is clamped as in grpo_verl, both parts.

extend bnpo

## Weight of the KL penalty to the reference policy. Loss per nat; 0.01 (NeMo-RL). At 0 no reference is
## needed.
param beta = 0.01
## Whether the deviation of the others divides. On (NeMo-RL, normalize_rewards).
param normalize = true

size   = count(rollout per group)
above  = center(reward)
## Mean of the others' rewards, from the mean of the group.
others = if size > 1 then -above / (size - 1) else above
# Equal others are told by comparison, not by a variance that rounding may leave.
low    = reward == min(reward per group)
high   = reward == max(reward per group)
alike  = count(low per group) - int(low) == size - 1 or count(high per group) - int(high) == size - 1
square = (sum(above ^ 2 per group) - above ^ 2) / (size - 1)
spread = if alike or size < 3 then 0 else sqrt(max((square - others ^ 2) * (size - 1) / (size - 2), 0))

## Credit of a token, in standard deviations of the other rollouts' rewards.
advantage = if normalize and spread > 0 then (above - others) / (spread + 1e-6) else above - others

gap     = clip(ref_logp - logp, -20, 20)
penalty = if beta == 0 then 0 else beta * clip((expm1(gap) - gap) * exp(logp - detach(logp)), -10, 10)
