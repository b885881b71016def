# GDPO: Group Diffusion Policy Optimization.
# Kevin Rojas et al., "Improving Reasoning for Diffusion Language Models via Group Diffusion Policy
# Optimization", 2025, arXiv 2510.08554.
#
# The likelihood of a masked-diffusion rollout is bounded by a few quadrature nodes over masking
# levels, and the bound takes the place of its log-probability.
#
#     E_i = sum_n w_n / t_n sum_{t masked at n} logp_t        A_i = R_i - mean_G R
#     r_i = exp((E_i - old E_i) / L_max)
#     L   = mean_i [ beta k3(E_i) - PC-objective(r_i, A_i) ]
#
# Family: diffusion.
# Confidence: secondary.
# Choices: From two implementations (one said to follow the authors') and notes. With paper_form =
# true the ratio is exp(E - old E), undivided, and each rollout's loss is divided by its own length;
# the default is the code's form, whose ratio does not saturate. L_max is the batch's longest
# completion, all tokens of a node. scale_by_std = true also divides advantages by the group's std +
# 1e-4. E is no log-probability: do not read probabilities or entropies from it.
# To train: a masked-diffusion policy scored at fixed nodes: each node holds the whole completion
# (`node/size`), with the same masks for the current, old and reference policy. Gauss-Legendre: t =
# 0.2113, 0.7887, w = 0.5, 0.5; or t = 0.1127, 0.5, 0.8873, w = 0.2778, 0.4444, 0.2778.

extend gspo

## How far the rollout's ratio may fall below 1. No unit; 0.2 (both implementations).
param clip_low  = 0.2 in [0, 1]
## How far the rollout's ratio may rise above 1. No unit; 0.2 (both implementations).
param clip_high = 0.2 in [0, inf]
## Whether the ratio is undivided and the loss is divided by the length. Off (the code).
param paper_form = false
## Whether advantages are divided by the group's std + 1e-4. Off (the paper).
param scale_by_std = false

allow unnormalised_ratio

## A quadrature node: the whole completion, masked at one level.
level node in rollout
## Masking level of a node, in (0, 1]; at 0 nothing is masked, and the node counts as 0.
input t_n : real @ node
## Weight of a node.
input w_n : real @ node
## Whether the token is masked at its node.
input masked : bool @ token

nodes   = max(count(node per rollout), 1)
## Tokens of the completion: kept ones, and of the longest in the batch all.
tokens  = max(count(token per rollout) / nodes, 1)
longest = max(max(length / nodes), 1)

## The bound on the rollout's log-probability, in nats.
fn elbo(lp) =
  scale = if t_n > 0 then w_n / t_n else 0
  sum(scale * sum(lp where masked per node) per rollout)
gain  = elbo(logp) - elbo(old_logp)
ratio = exp(if paper_form then gain else gain / longest)

## Credit of a rollout, in the unit of the reward.
advantage = center(reward) / (if scale_by_std then std(reward per group) + 1e-4 else 1)
surrogate = clipped(ratio, advantage, clip_low, clip_high) / (if paper_form then tokens else 1)
penalty   = if beta == 0 then 0 else beta * kl_k3(elbo(logp), elbo(ref_logp))

## Mean gain of the bound since sampling, in nats.
metric mean_gain = mean(gain)
