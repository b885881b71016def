# KTO: Kahneman-Tversky Optimization.
# Kawin Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", 2024, arXiv
# 2402.01306.
#
# Rollouts are wanted or not, without pairs; each is worth its log-ratio above a reference point, with
# losses and gains that flatten.
#
#     x_i = sum_t (logp_t - ref_logp_t)          kl = max(0, mean_B of the mismatched log-ratios)
#     L   = mean_i of w_c (1 - sigmoid(beta (x_i - kl)))     where i is chosen
#                     w_r (1 - sigmoid(beta (kl - x_i)))     elsewhere
#
# Family: preferences.
# Confidence: exact from code.
# Choices: the reference point is recorded (no gradient), as the sampler or trainer computes it from
# completions paired with other prompts.
# To train: `rollout/is_chosen`, and `rollout/mismatched_log_ratio`, the log-ratio of a completion of
# another prompt.

extend nothing

## Whether the rollout is a wanted one.
input is_chosen : bool @ rollout
## Log-ratio to the reference of a completion that belongs to another prompt, summed over its tokens. Nats.
input mismatched_log_ratio : real @ rollout

## How much a log-ratio is worth. Per nat; 0.1 (TRL, beta).
param beta = 0.1 in [0, inf]
## Weight of wanted rollouts. No unit; 1.0 (TRL, desirable_weight).
param desirable_weight = 1.0 in [0, inf]
## Weight of the others. No unit; 1.0 (TRL, undesirable_weight).
param undesirable_weight = 1.0 in [0, inf]

## The tokens whose log-probabilities count.
loss_mask = mask
keep token where loss_mask

## The rollout's implicit reward, in nats.
score           = sum(logp - ref_logp per rollout)
## What a rollout is measured against, in nats.
reference_point = max(mean(mismatched_log_ratio), 0)
rollout_loss    = if is_chosen then desirable_weight * (1 - sigmoid(beta * (score - reference_point)))
                  else undesirable_weight * (1 - sigmoid(beta * (reference_point - score)))
loss            = mean(rollout_loss)

minimize loss

## Mean score of the wanted rollouts less that of the others, in nats.
metric mean_margin = mean(score where is_chosen) - mean(score where not is_chosen)
