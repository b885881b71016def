# DCPO: Dynamic Clipping Policy Optimization.
# Shihui Yang et al., "DCPO: Dynamic Clipping Policy Optimization", 2025, arXiv 2509.02333.
#
# Unlikely tokens may move further than likely ones, and a prompt's rewards are standardised over
# all of its visits, so that a group that agrees can still teach.
#
#     mu_T, sd_T = mean and std of the prompt's rewards over its i visits
#     mu', sd' = of this one
#     A_n = (R - mu') / sd'     A_T = (R - mu_T) / sd_T     A = the smaller in size of
#           (i-1)/i A_n + 1/i A_T      and      1/i A_n + (i-1)/i A_T
#     x_t = dual clip(r_t, A; a, b, c)        q = exp(old_logp_t), cap = max(c, 10)
#           a = 1/2 + 1/2 sqrt(max(1 - 4 low / q, 0))
#           b = min(1/2 + 1/2 sqrt(1 + 4 high / q), cap)
#     L   = mean_i mean_t -x_t
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: The sources aggregate in three ways; the default has the form of the README's "only token
# mean" (sum_i 1/L_i sum_t), with a mean over rollouts: aggregation = 0. 1 is that sum without the
# mean, 2 the code's token mean, 3 the later README's (1/G) sum_i sum_t. A spread of at most 1e-8
# counts as none (the code tests for 0, which rounding of a running mean misses). Groups of one
# prompt in a batch: their new statistics are averaged. The script clips at 0.2 / 0.28, paper and
# README at 0.16 / 0.2.

extend grpo

## How far the ratio's bound falls below 1, scaled by the token's probability. No unit; 0.16 (the
## paper).
param clip_low  = 0.16 in [0, 1]
## How far the ratio's bound rises above 1, scaled likewise. No unit; 0.2 (the paper).
param clip_high = 0.2 in [0, inf]
## Largest ratio that multiplies a negative advantage; the upper bound's cap too. A ratio; 10 (the
## code).
param clip_ratio_c = 10.0 in [1, inf]
## What is averaged: 0 sequence mean, 1 sum of sequence means, 2 token mean, 3 mean of sequence
## sums.
param aggregation = 0 in [0, 3]

## Mean reward of a prompt over its visits, in the unit of the reward.
state mu[prompt] : real @ group = 0.0
## Their std (ddof = 1 in each visit).
state sd[prompt] : real @ group = 0.0
## Number of visits.
state n[prompt] : real @ group = 0.0

visit    = n + 1
mu_group = mean(reward per group)
sd_group = std(reward per group)
mu_total = (n * mu + mu_group) / visit
var_total = (n * sd ^ 2 + sd_group ^ 2 + n / visit * (mu_group - mu) ^ 2) / visit
sd_total = sqrt(var_total)
update mu = mu_total
update sd = sd_total
update n  = visit

fn standardised(centre, spread) = if spread > 1e-8 then (reward - centre) / spread else 0
now  = standardised(mu_group, sd_group)
ever = standardised(mu_total, sd_total)
mostly_now  = (n * now + ever) / visit
mostly_ever = (now + n * ever) / visit
## Credit of a rollout, in standard deviations of its prompt's rewards.
advantage = if abs(mostly_now) < abs(mostly_ever) then mostly_now else mostly_ever

## The ratio's bounds: wide where the token was unlikely.
old_p   = exp(old_logp)
lowest  = 0.5 + 0.5 * sqrt(max(1 - 4 * clip_low / old_p, 0))
highest = min(0.5 + 0.5 * sqrt(1 + 4 * clip_high / old_p), max(clip_ratio_c, 10))
surrogate = dual_clipped(ratio, advantage, 1 - lowest, highest - 1, clip_ratio_c)

loss = if aggregation == 0 then seq_mean(token_loss)
       else if aggregation == 1 then sum(mean(token_loss per rollout))
       else if aggregation == 2 then token_mean(token_loss)
       else seq_sum(token_loss)

## Share of the tokens whose gradient the clip takes away.
metric clip_fraction = token_mean(is_clipped(ratio, advantage, 1 - lowest, highest - 1))
## Share of the groups whose rollouts agree, yet have an advantage.
metric revived_groups = mean(sd_group == 0 and any(advantage != 0 per group))
