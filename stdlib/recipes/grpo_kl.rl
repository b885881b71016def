# GRPO with a choice of KL estimators.
# verl, kl_loss_type; TRL, use_bias_correction_kl; NeMo-RL; after John Schulman, "Approximating KL
# Divergence", 2020.
#
# The estimator decides the gradient: as a loss, on-policy, k1 has none in expectation, k3 that of
# KL(reference || policy) and k2 that of KL(policy || reference).
#
#     k1 = x          abs = |x|          k2 = x^2 / 2          k3 = exp(-x) + x - 1          x = logp - ref_logp
#     straight_through: the estimator's value with the gradient of k2 (verl's "k1+", "k3+"; NeMo-RL)
#     weighted: the estimator times the ratio r_t, with gradient (TRL)
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: none of the estimators is clamped (verl clamps k3's exponent at 20 and its value at 10).

extend grpo

## Weight of the KL penalty. Loss per nat; 0.001 (verl, kl_loss_coef).
param beta = 0.001 in [0, inf]
## Which estimator: 0 abs, 1 k1, 2 k2, 3 k3. 3 (verl's low_var_kl; TRL).
param estimator = 3 in [0, 3]
## Whether the gradient is that of k2. Off.
param straight_through = false
## Whether the estimator is weighed by the ratio. Off (verl; TRL 1.16,
## use_bias_correction_kl: on).
param weighted = false

plain   = if estimator == 0 then abs(logp - ref_logp)
          else if estimator == 1 then kl_k1(logp, ref_logp)
          else if estimator == 2 then kl_k2(logp, ref_logp)
          else kl_k3(logp, ref_logp)
bound   = if straight_through then with_grad(plain, kl_k2(logp, ref_logp)) else plain
## What is paid for leaving the reference policy.
kl      = if weighted then bound * ratio else bound
penalty = if beta == 0 then 0 else beta * kl

## Mean estimate of the KL per token, in nats.
metric reference_kl = token_mean(kl)
