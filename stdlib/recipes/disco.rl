# DisCO: Discriminative Constrained Optimization.
# Gang Li et al., "DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained
# Optimization", 2025, arXiv 2505.12366.
#
# The scores of right rollouts are raised above those of the wrong ones of the same question, the hardest
# most, under a constraint on the KL; there is no advantage, so easy and hard questions weigh alike.
#
#     s_i = mean_t logp_t
#     J   = (1 / Q) sum_{G with both} ( mean_pos s - tau log mean_neg exp(s / tau) )
#     L   = -J + sg[max(beta (KL - delta), 0)] KL          KL = mean_t (old_logp_t - logp_t)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: Q counts all questions, also those without both kinds. The code's negative term has the value
# tau and the gradient of the one above; here the value is the paper's. `low_var_kl = true` takes
# exp(d) - 1 - d, the code's other estimator. `disco_lratio` scores by ratios, `disco_b` is the basic
# form.
# To train: rewards of 0 and 1; others take no part.

extend nothing

## Temperature of the soft maximum over wrong rollouts. In the unit of the score; 10.0 (the code, for
## the log-likelihood score).
param tau        = 10.0
## Weight of the squared hinge. Loss per nat^2; 1000.0 (the code).
param beta       = 1e3
## How much KL is free. Nats; 1e-4 (the code).
param delta      = 1e-4
## Whether the KL is estimated by exp(d) - 1 - d instead of -d. false (the code's scripts).
param low_var_kl = false

## The tokens that are trained on and counted: those the policy wrote.
loss_mask = mask
keep token where loss_mask

positive = reward == 1
negative = reward == 0
## Whether the group has both kinds.
valid    = any(positive per group) and any(negative per group)
## What tells right from wrong rollouts.
score    = mean(logp per rollout)
## Soft maximum of the wrong rollouts' scores.
rivals   = tau * (logsumexp(score / tau where negative per group) - log(count(negative per group)))
margin   = if valid then mean(score where positive per group) - rivals else 0
## KL(sampling policy || current policy) per token, in nats.
kl       = token_mean(if low_var_kl then kl_k3(old_logp, logp) else old_logp - logp)
hinge    = detach(max(beta * (kl - delta), 0))
loss     = hinge * kl - mean(margin)

minimize loss

## Share of the questions with right and wrong rollouts.
metric valid     = mean(valid)
## KL(sampling policy || current policy) per token, estimated by k1, in nats.
metric approx_kl = token_mean(old_logp - logp)
