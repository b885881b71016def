# SPO-chain: Segment Policy Optimization along a chain.
# Yiran Guo et al., "Segment Policy Optimization: Effective Segment-Level Credit Assignment in RL
# for Large Language Models", 2025, arXiv 2505.23564.
#
# A rollout is cut where the policy was unsure, and a segment's credit is by how much it changed the
# chance of success, measured by sampling on from its ends.
#
#     low_t  = old probability of the token < prob_max
#     a segment begins at every I-th low token
#     A_t    = V(end of t's segment) - V(its beginning)
#     V(end of the rollout) = R; 0 before the first
#     A      = (A - mean) / sqrt(var + 1e-8)                   over the low tokens of the batch
#     L      = mean over low tokens of -PC(r_t, A_t) + beta mean_i sum over low tokens of k3_t
#     L      = 0 where the mean ratio of the low tokens exceeds max_ratio
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: The KL is a token sum where the policy term is a token mean, as in the code;
# kl_token_mean = true averages both. Log-ratios are clamped to [-10, 10], the KL's too. The veto on
# the mean ratio reads the whole batch, so the batch is one piece; max_ratio = inf turns it off and
# lets it be cut. Tokens that the mask takes away are passed over when a cut is placed.
# To train: Monte-Carlo values: mean reward of K continuations from each cut, in `token/cut_value`
# at the last token before it (NaN elsewhere) and in `rollout/prompt_value` for the prompt, read
# where the first token is low. K = 9 for a 1B model, 4 for a 1.5B one.

extend bnpo

## Tokens of a lower probability when sampled are cut at and trained. A probability; 0.9 (the code).
param prob_max = 0.9 in [0, 1]
## Low tokens between two cuts (I). Tokens; 5 (the code, GSM8K).
param interval = 5 in [1, inf]
## Weight of the KL to the reference policy. Loss per nat; 1e-4 (the code).
param beta = 1e-4 in [0, inf]
## Mean ratio beyond which the batch is given up. A ratio; 10 (the code).
param max_ratio = 10.0 in [0, inf]
## Whether the KL is a mean over tokens, not a sum over each rollout's. Off (the code).
param kl_token_mean = false

## Value of the rollout up to and with this token, where the next segment begins after it; else NaN.
input cut_value : real @ token
## Value of the prompt alone.
input prompt_value : real @ rollout

## Whether the policy was unsure of the token when it sampled it.
low    = exp(old_logp) < prob_max
# Of the low tokens, number 0, I, 2 I ... begin a segment.
starts = low and (cumsum(low in rollout) - 1) % interval == 0
part   = cumsum(starts in rollout)
key piece = (rollout, part)

## Value at a segment's beginning, and at its end, in the unit of the reward.
begin_value = first(prev(cut_value, prompt_value in rollout) per piece)
end_value   = next(begin_value, reward in rollout)
gain        = if part == 0 then 0 else end_value - begin_value

## Whether the token is trained.
trained    = low
mean_gain  = mean(gain where trained)
## Credit of a token, in standard deviations over the batch's trained tokens.
advantage  = if trained then (gain - mean_gain) / sqrt(var(gain where trained) + 1e-8) else 0
ratio      = exp(clip(logp - old_logp, -10, 10))
token_loss = -surrogate

penalty = if beta == 0 then 0 else beta * kl_k3(0, clip(ref_logp - logp, -10, 10))
kl_loss = if kl_token_mean then mean(penalty @ token where trained)
          else mean(sum(penalty @ token where trained per rollout))
sane    = if max_ratio == inf then true else mean(ratio where trained) <= max_ratio
loss    = if sane then mean(token_loss where trained) + kl_loss else 0

## Share of the trained tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where trained)
## Share of the tokens that are trained.
metric trained_share = token_mean(trained)
## Mean ratio of the trained tokens.
metric mean_ratio = mean(ratio where trained)
