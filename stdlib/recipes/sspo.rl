# SSPO: Subsentence-level Policy Optimization.
# "SSPO: Subsentence-level Policy Optimization", 2025, arXiv 2511.04256.
#
# A ratio per piece of a sentence, between GRPO's per token and GSPO's per rollout, and a clip that is wide
# where the policy is unsure and narrow where it is sure.
#
#     w_k = exp(mean_{t in k} (logp_t - old_logp_t))          H_k = mean_{t in k} entropy
#     c_k = clip(H_k / mean_k H_k, narrow, wide)
#     L   = mean_i mean_t -min(w A_i, clip(w, 1 - low c_k, 1 + high c_k) A_i)
#
# Family: ratio and clip.
# Confidence: reconstructed.
# Choices: Known from the abstracts: a ratio per piece, and bounds that follow its entropy. Ours: the geometric
# mean; its value with each token's own gradient, as in gspo_token; bounds in proportion to the piece's
# entropy over the mean of the rollout's pieces, from half to one and a half times 0.2 and 0.28; ddof = 1. The
# entropy is the current policy's, without gradient: in the first update it is the old one's.
# To train: a sampler that numbers the pieces, cut at punctuation and newlines (`token/subsentence`).

extend gspo_token

## Which piece of a sentence the token is in: a number that changes from one to the next.
input subsentence : int @ token

## How far the ratio may fall below 1 at average entropy. No unit; 0.2 (DAPO).
param clip_low  = 0.2
## How far the ratio may rise above 1 at average entropy. No unit; 0.28 (DAPO).
param clip_high = 0.28
## The smallest factor of the bounds. No unit; 0.5 (ours).
param narrow = 0.5 in [0, inf]
## The largest factor of the bounds. No unit; 1.5 (ours).
param wide   = 1.5 in [0, inf]

key piece = (rollout, subsentence)

advantage = norm(reward)
ratio     = exp(with_grad(mean(logp - old_logp per piece), logp))

unsure = mean(detach(entropy) per piece)
usual  = mean(unsure per rollout)
## Factor of the clip's bounds.
width  = if usual > 0 then clip(unsure / usual, narrow, wide) else 1
low    = clip_low * width
high   = clip_high * width
surrogate = clipped(ratio, advantage, low, high)

## Share of the tokens whose gradient the clip takes away.
metric clip_fraction = token_mean(is_clipped(ratio, advantage, low, high))
## Mean factor of the bounds.
metric width = mean(width)
