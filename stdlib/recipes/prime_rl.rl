# prime-rl's default loss.
# PrimeIntellect-ai/prime-rl, loss type "default".
#
# Importance sampling against the sampler itself, with tokens masked whose probability has moved too far, and
# a quadratic price on the log-ratio.
#
#     d_t    = logp_t - sampler_logp_t          r_t = exp(d_t)          p, q: exp(logp), exp(sampler_logp)
#     keep_t = p_t - q_t <= high where A > 0, p_t - q_t >= -low elsewhere
#     L      = sum_t (-A_i r_t keep_t + tau d_t^2) / (number of tokens in the batch)
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: the price is paid by masked tokens too. prime-rl's advantage is the centred reward.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend bnpo

## How far a probability may fall before a token without a positive advantage stops pushing. No unit; 0.2
## (prime-rl).
param clip_low = 0.2 in [0, 1]
## How far a probability may rise before a positive advantage stops pushing. No unit; 0.2 (prime-rl).
param clip_high = 0.2 in [0, inf]
## Price of the squared log-ratio to the sampler. Loss per nat squared; 1e-3 (prime-rl).
param tau = 1e-3 in [0, inf]

## Credit of a token, in the unit of the reward.
advantage = center(reward)
log_ratio = logp - sampler_logp
ratio     = exp(log_ratio)
moved     = exp(logp) - exp(sampler_logp)
kept      = if advantage > 0 then moved <= clip_high else moved >= -clip_low
surrogate = if kept then ratio * advantage else 0
penalty   = tau * log_ratio ^ 2

## Share of the tokens whose gradient the mask takes away.
metric clip_fraction = token_mean(not kept)
## KL(sampler || policy) per token, estimated by k1, in nats.
metric approx_kl = token_mean(-log_ratio)
