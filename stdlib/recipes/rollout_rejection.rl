# Rejection by the sampler's mismatch.
# verl, rollout_rs.
#
# Rollouts (or tokens) whose divergence from the sampler is out of bounds are taken out of the loss and out of
# its denominator; their rewards stay in the group's statistics.
#
#     x_t = clip(old_logp_t - sampler_logp_t, -20, 20)
#     k1 = -x          k2 = x^2 / 2          k3 = exp(x) - 1 - x
#     keep = K <= upper          k1: log lower <= K <= log upper          K = mean_t k, sum_t k, max_t k or k_t
#     L      = grpo_verl's on the tokens of kept rollouts
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: bounds of k1 are ratios of the sampler's probability to the trainer's, as verl has them, so that
# asymmetric bounds act the other way round than on exp(x). verl has no default bounds. Several
# criteria at once, as verl joins them, are `loss_mask = base.loss_mask and ...` in a file of yours.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend grpo_verl

## Which divergence: 1, 2 or 3. 3.
param estimator = 3 in [1, 3]
## What is held to the bounds: 0 each token (token_k*), 1 the mean over a rollout (seq_mean_k*), 2 the sum
## (seq_sum_k*), 3 the largest (seq_max_k*). 1.
param aggregation = 1 in [0, 3]
## Largest divergence (k2, k3), in nats, or largest ratio (k1); 2.0.
param upper = 2.0 in [0, inf]
## Smallest ratio (k1 only). No unit; 0.5.
param lower = 0.5 in [0, inf]

disagreement = clip(old_logp - sampler_logp, -20, 20)
distance     = if estimator == 1 then -disagreement
               else if estimator == 2 then disagreement ^ 2 / 2
               else expm1(disagreement) - disagreement
divergence   = if aggregation == 0 then distance
               else if aggregation == 1 then mean(distance where mask per rollout) @ token
               else if aggregation == 2 then sum(distance where mask per rollout) @ token
               else max(distance, default = 0 where mask per rollout) @ token
accepted     = if estimator == 1 then divergence <= log(upper) and divergence >= log(lower)
               else divergence <= upper
loss_mask    = base.loss_mask and accepted
