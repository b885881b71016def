# SPO: Single-stream Policy Optimization.
# Zhongwen Xu and Zihan Ding, "Single-stream Policy Optimization", 2025, arXiv 2509.13232.
#
# One rollout per prompt: the baseline is a running estimate of the prompt's success rate, and
# advantages are normalised over the batch.
#
#     v   = alpha_x / (alpha_x + beta_x)        a_i = R_i - v
#     A_i = (a_i - mean_B a) / (std_B a + 1e-8)
#     L   = sum_t -dual clip(r_t, A_i; 0.8, 1.28, 10) / (tokens in the batch)
#     rho     = clip(2^(-D / half_life), rho_min, rho_max)
#     alpha_x <- rho alpha_x + R        beta_x <- rho beta_x + 1 - R
#     weight_x = sqrt(v (1 - v)) + 0.05
#
# Family: baseline.
# Confidence: exact from code.
# Choices: Several rollouts of a prompt, which the paper does not have, update its counts by their
# mean. The sampling weight reads the updated counts. The counts' names are the paper's; `beta` is
# no KL here.
# To train: `rollout/D`: mean |change of log-probability| of the prompt's previous response since it
# was trained on, 0 on a first visit; from k successes of n offline samples the counts begin at N (k
# + 0.5) / (n + 1) and N (n - k + 0.5) / (n + 1) with N = 1 / (1 - rho_min) = 8.

extend dapo

## Largest ratio that multiplies a negative advantage. A ratio; 10 (the code).
param clip_ratio_c = 10.0 in [1, inf]
## Drift of the policy at which half of the past is forgotten (D_half). Nats per token; 0.06 (the
## code).
param half_life = 0.06 in [1e-6, inf]
## Least share of the past that is kept. No unit; 0.875 (the code).
param rho_min = 0.875 in [0, 1]
## Largest share of the past that is kept. No unit; 0.96 (the code).
param rho_max = 0.96 in [0, 1]
## Added to a prompt's sampling weight, so that none is forgotten. No unit; 0.05 (the code).
param explore = 0.05 in [0, inf]

## How far the policy has moved on the prompt's previous response, in nats per token.
input D : real @ rollout = 0.0
## Pseudo-count of a prompt's successes.
state alpha[prompt] : real @ group = 0.5
## Pseudo-count of a prompt's failures.
state beta[prompt] : real @ group = 0.5

## The prompt's success rate before this visit.
v   = alpha / (alpha + beta)
rho = clip(2 ^ (-mean(D per group) / half_life), rho_min, rho_max)
new_alpha = rho * alpha + mean(reward per group)
new_beta  = rho * beta + mean(1 - reward per group)
update alpha = new_alpha
update beta  = new_beta

new_v = new_alpha / (new_alpha + new_beta)
## How likely the prompt is to be drawn next.
prompt_weight   = sqrt(max(new_v * (1 - new_v), 0)) + explore
sample weight   = prompt_weight
sample rollouts = 1

## Credit of a rollout, in standard deviations of the batch.
advantage = norm(reward - v, eps = 1e-8 per batch)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)
# No KL, and `beta` is a count.
penalty   = 0

## Mean estimated success rate of the batch's prompts.
metric mean_value = mean(v)
## Mean share of the past that is kept.
metric mean_rho = mean(rho)
