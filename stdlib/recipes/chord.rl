# CHORD: Controllable Harmonization of On- and Off-policy RL via Dynamic weighting, with phi.
# "On-Policy RL Meets Off-Policy Experts: Harmonizing Supervised Fine-Tuning and Reinforcement Learning
# via Dynamic Weighting", 2025, arXiv 2508.11408.
#
# The weight of the expert part follows a schedule, and inside it tokens that the policy is sure of, or
# would never say, are held back.
#
#     s_t = -sg[p_t (1 - p_t)] logp_t          p_t = exp(logp_t)
#     mu  = mu_peak step / warmup, then mu_valley + (mu_peak - mu_valley) (1 + cos(pi x)) / 2, then mu_valley
#     L   as in mix                            x: share of the decay done
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: As in Trinity-RFT, where both step counts are 0 by default, so that mu is mu_valley from the
# start. `phi = false` is the plain -logp; `chord_is` weighs by sg[p_t]. The denominators are mix's.
# To train: a sampler that mixes expert traces in and records `rollout/is_expert`.

extend mix

## Steps of the linear warm-up to mu_peak. Steps; 0 (Trinity-RFT).
param mu_warmup_steps = 0
## Steps of the cosine decay to mu_valley. Steps; 0 (Trinity-RFT).
param mu_decay_steps  = 0
## The largest weight of the expert part. No unit; 0.1 (Trinity-RFT).
param mu_peak         = 0.1 in [0, 1]
## The last weight of the expert part. No unit; 0.1 (Trinity-RFT).
param mu_valley       = 0.1 in [0, 1]
## Whether expert tokens are weighed by p (1 - p). true (Trinity-RFT).
param phi             = true
## Expert tokens more probable than this get no gradient. A probability; 1.0, which is off
## (Trinity-RFT).
param cutoff_prob     = 1.0 in [0, 1]

## The weight of the expert part at this step.
mu =
  decayed = train.step - mu_warmup_steps
  cosine  = (1 + cos(pi * decayed / mu_decay_steps)) / 2
  if train.step < mu_warmup_steps then mu_peak * train.step / mu_warmup_steps
    else if decayed >= mu_decay_steps then mu_valley
    else mu_valley + (mu_peak - mu_valley) * cosine
## Weight of an expert token, without gradient.
sft_weight = if phi then detach(exp(logp) * (1 - exp(logp))) else 1
sft_loss   = -sft_weight * (if cutoff_prob < 1 then min(logp, log(cutoff_prob)) else logp)

## Weight of the expert part.
metric mu = mu
