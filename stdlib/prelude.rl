# The prelude: the root of every program, also of one that says `extend nothing`.
# A name defined here may be replaced like any other; what reads it then sees the replacement.

# ---- the policy ---------------------------------------------------------------------------------

## Sampling temperature: the logits are divided by it before the softmax. No unit; default 1.0 (TRL,
## verl). The training loop sets it to the sampler's.
param temperature = 1.0

## Log-probability of the sampled token under the current policy, in nats.
logp = at(log_softmax(logits / temperature), action)

## Entropy of the distribution the token was drawn from, in nats, at the sampling temperature.
entropy = row_entropy(logits / temperature)

## Entropy of softmax(z) over a vocab row, in nats. A logit of -inf has probability 0 and adds 0.
fn row_entropy(z) =
  p = softmax(z)
  logsumexp(z per token) - sum(if p > 0 then p * z else 0 per token)

# ---- advantages ---------------------------------------------------------------------------------

## How far x lies above the mean of its group, in standard deviations (ddof = 1). A group of one
## gives 0. In units of std; eps default 1e-4 (TRL, GRPOTrainer).
fn group_norm(x, eps = 1e-4) = (x - mean(x per group)) / (std(x, ddof = 1 per group) + eps)

## group_norm as verl has it: a group of one has mean 0 and std 1, so x / (1 + eps) is left.
## In units of std; eps default 1e-6 (verl, compute_grpo_outcome_advantage).
fn group_norm_verl(x, eps = 1e-6) =
  if count(x per group) == 1 then x / (1 + eps) else group_norm(x, eps)

## group_norm with the population standard deviation (ddof = 0), as the papers usually print it.
## In units of std; eps default 1e-6.
fn group_norm_pop(x, eps = 1e-6) = (x - mean(x per group)) / (std(x, ddof = 0 per group) + eps)

## group_norm in any scope: `norm(ret per turn)`. In units of std (ddof = 1); eps default 1e-6.
fn norm(x, eps = 1e-6 per L = group) = (x - mean(x per L)) / (std(x, ddof = 1 per L) + eps)

## x whitened over the elements of its own level in the whole batch. In units of std (ddof = 1);
## eps is added to the variance, default 1e-8 (verl, masked_whiten).
fn batch_norm(x, eps = 1e-8) = (x - mean(x)) / sqrt(var(x, ddof = 1) + eps)

## x minus the mean of its group. In the unit of x (Dr. GRPO).
fn center(x) = x - mean(x per group)

## x minus the mean of the *other* elements of its group; alone in its group, x itself. In the unit
## of x (RLOO). Written as n / (n - 1) * (x - mean), so that equal elements give exactly 0.
fn leave_one_out(x) =
  n = count(x per group)
  if n == 1 then x else n / (n - 1) * (x - mean(x per group))

## CalibAdv steps 3 and 4 (arXiv 2604.18235): calibrated negative advantages.
## Before the last turn of a rollout, a negative advantage is softened by the turn's correctness q in
## [0, 1]. In last turns, per group, the positive advantages are scaled so that their sum over tokens
## is lam times the negatives'; a group that lacks either sign gets 0 there. In the unit of a;
## lam is a share of masses, default 1.
fn calib(a, q, lam = 1) =
  last     = is_last(turn in rollout)
  positive = sum(max(a, 0) @ token where last per group)
  negative = sum(max(-a, 0) @ token where last per group)
  mixed    = positive > 0 and negative > 0
  balanced = if a > 0 then a * lam * negative / positive else a
  softened = if a < 0 then a * (1 - q) else a
  if last then (if mixed then balanced else 0) else softened

# ---- surrogates ---------------------------------------------------------------------------------

## The clipped surrogate of PPO, to be maximised: the smaller of ratio * a and clip(ratio) * a.
## low and high are distances from 1 (no unit), published default 0.2 each (PPO, GRPO).
fn clipped(ratio, a, low, high) = min(ratio * a, clip(ratio, 1 - low, 1 + high) * a)

## clipped, and for a negative advantage never below c * a: a huge ratio cannot make the surrogate
## arbitrarily small. c is a ratio (no unit), default 3 (verl, clip_ratio_c).
fn dual_clipped(ratio, a, low, high, c = 3) =
  surrogate = clipped(ratio, a, low, high)
  if a < 0 then max(surrogate, c * a) else surrogate

## Whether the clipped branch of `clipped` is the smaller one, so that no gradient passes.
fn is_clipped(ratio, a, low, high) = clip(ratio, 1 - low, 1 + high) * a < ratio * a

# ---- divergences --------------------------------------------------------------------------------
# Estimators of KL(policy || reference) from one sampled token, in nats (Schulman's k1, k2, k3).

## logp - ref: unbiased, of either sign. As a loss its expected gradient is zero on-policy.
fn kl_k1(logp, ref) = logp - ref

## Half the squared log-ratio: biased, never negative. As a loss its expected gradient on-policy is
## that of KL(policy || ref).
fn kl_k2(logp, ref) = (logp - ref) ^ 2 / 2

## exp(ref - logp) - (ref - logp) - 1: unbiased, never negative ("low_var_kl"). Not clamped. As a loss
## its expected gradient on-policy is that of KL(ref || policy).
fn kl_k3(logp, ref) =
  gap = ref - logp
  expm1(gap) - gap

# ---- aggregation --------------------------------------------------------------------------------

## Mean over all kept tokens of the batch: long rollouts weigh more (DAPO).
fn token_mean(x) = mean(x @ token)

## Mean over tokens within a rollout, then over rollouts (GRPO). A rollout without a kept token
## counts with 0.
fn seq_mean(x) = mean(mean(x @ token per rollout))

## Sum over the tokens of a rollout, then the mean over rollouts.
fn seq_sum(x) = mean(sum(x @ token per rollout))

# ---- gradients ----------------------------------------------------------------------------------

## The value of the first with the gradient of the second (a straight-through value).
fn with_grad(value, of) = detach(value) + (of - detach(of))
