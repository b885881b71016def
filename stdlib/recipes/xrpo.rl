# XRPO: eXplore-eXploit GRPO.
# Udbhav Bamba et al., "XRPO: Pushing the limits of GRPO with Targeted Exploration and
# Exploitation", 2025, arXiv 2510.06672.
#
# Correct rollouts that the policy found unlikely, compared with their group, gain advantage.
#
#     s_i   = mean_t old_logp_t            eta_i = exp(s_i - mean_G s)
#     A+_i  = A_i + min(max(lam (1 - eta_i), 0), kappa A_i)        where A_i > 0; else A_i
#     L     as in grpo, with A+
#
# Family: advantage.
# Confidence: secondary.
# Choices: Formula and defaults from reviews and an independent implementation that quote the paper.
# The latter sharpens every rollout, up to kappa |A|; the abstract speaks of correct ones:
# correct_only = false is the former. The allocator of rollouts (a t-interval's shrinkage plus an
# exploration bonus) and in-context seeding of failed prompts belong to the sampler and are not
# here.
# To train: the usual columns suffice; groups may differ in size.

extend grpo

## Weight of the novelty. Advantage per unit of 1 - eta; 2.5 (a review quoting the paper).
param lam   = 2.5 in [0, inf]
## Largest gain, as a share of the advantage. No unit; 0.5 (a review quoting the paper).
param kappa = 0.5 in [0, inf]
## Whether only rollouts above their group's mean gain. On (the abstract).
param correct_only = true

## Mean log-probability of a rollout's tokens when sampled, in nats.
likelihood = mean(old_logp per rollout)
## Likelihood relative to the group's: below 1 the rollout is novel.
eta        = exp(likelihood - mean(likelihood per group))
raw        = group_norm(reward)
bonus      = min(max(lam * (1 - eta), 0), kappa * abs(raw))
## Credit of a rollout, in standard deviations of the group's rewards.
advantage  = if correct_only and raw <= 0 then raw else raw + bonus

## Share of the rollouts that gained.
metric sharpened = mean(advantage > raw)
