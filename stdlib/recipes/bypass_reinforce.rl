# REINFORCE with explicit importance sampling, bypassing the old policy.
# verl, policy loss "bypass_mode" with loss_type "reinforce".
#
# The sampler's log-probabilities stand for the old policy's: one capped weight corrects for everything, and
# nothing is clipped.
#
#     u_t = sg[min(exp(clip(logp_t - sampler_logp_t, -20, 20)), cap)]
#     L   = sum_t -u_t A_i logp_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: one weight per token; `sequence = true` takes the product over the rollout, its logarithm bounded after
# the sum. The other loss of that mode, PPO's clip around the sampler ("ppo_clip"), is the line
# `old_logp = sampler_logp` in a file that extends grpo_verl; OpenRLHF does the same to GSPO.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend bnpo

## Largest weight. A ratio, no unit; 2.0 (verl, rollout_is_threshold).
param is_cap = 2.0 in [0, inf]
## Whether a rollout has one weight. Off.
param sequence = false

log_ratio      = logp - sampler_logp
drift          = if sequence then clip(sum(log_ratio per rollout), -20, 20) @ token else clip(log_ratio, -20, 20)
## Probability of the token now over that under the sampler.
ratio          = exp(drift)
## Weight of a token's gradient. No unit.
sampler_weight = detach(min(ratio, is_cap))
surrogate      = sampler_weight * advantage * logp

## Share of the tokens whose weight is cut.
metric clip_fraction = token_mean(ratio > is_cap)
## KL(sampler || current policy) per token, estimated by k1, in nats.
metric approx_kl     = token_mean(-log_ratio)
