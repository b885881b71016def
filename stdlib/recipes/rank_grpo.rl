# Rank-GRPO.
# Yaochen Zhu et al., "Rank-GRPO: Training LLM-based Conversational Recommender Systems with Reinforcement
# Learning", 2025, arXiv 2510.20150; code in yaochenzhu/Rank-GRPO.
#
# In a ranked list an item is the action: it has its own reward, compared with the same rank of the group's
# other lists, its own ratio and its own clip.
#
#     A_ik = (R_ik - mean_G R_k) / (std_G R_k + eps)          R_ik: hit, or the hits from rank k on, discounted
#     w_ik = exp(mean_{t in item k} (logp_t - old_logp_t))
#     L    = sum_t [ beta k3_t - min(w A_t, clip(w, 1 - low, 1 + high) A_t) ] / (number of tokens)
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: Token mean and eps 1e-4 are TRL's defaults of that version, which the script leaves alone. A list
# that is shorter than the group's others has reward 0 at its missing ranks, whether the batch has empty items
# there or none. Tokens from item N on share one ratio and pay `length_bonus`. The EOS token sits in its last
# item's ratio but has no credit of its own beyond the length's, overflow or not.
# To train: a sampler that cuts completions into their lines (`item/size`: the newline belongs to the item it
# ends), checks each against the catalogue and the gold titles (`item/hit`), and marks the EOS token.

extend bnpo

## The lines of the completion.
level item in rollout
## Whether the item is in the catalogue, new, and a gold title.
input hit : real @ item
## The end-of-sequence token.
input eos : bool @ token = false
## Whether the completion ended by itself.
input terminated : bool @ rollout = true

## How many items a list should have. A count; 20 (the code).
param N = 20 in [1, inf]
## Whether an item is also paid for the hits after it, by their DCG discount (the reward "log_decay").
## A switch; false ("exp_inf", the code's default).
param log_decay = false
## What a list of the right length earns at its EOS, and what a wrong one pays. In standard deviations of the
## group's rewards; 0.1 (the code).
param length_bonus = 0.1 in [0, inf]
## How far an item's ratio may fall below 1. No unit; 0.06 (the code).
param clip_low  = 0.06
## How far an item's ratio may rise above 1. No unit; 0.08 (the code).
param clip_high = 0.08
## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (the code).
param beta = 0.001 in [0, inf]

# Ranks count from 0; everything from N on is one place.
rank_of = min(index(item in rollout), N)
listed  = rank_of < N
key place = (group, rank_of)
key slot  = (rollout, rank_of)

gain = if listed then hit / log2(real(rank_of) + 2) else 0
R    = if log_decay then rcumsum(gain in rollout) else hit

# Of all lists of the group; one without the rank has 0 there.
lists   = real(count(rollout per group))
present = real(count(item per place))
usual   = mean(R per place) * (present / lists)
square  = sum((R - usual) ^ 2 per place) + (lists - present) * usual ^ 2
spread  = if lists > 1 then sqrt(square / (lists - 1)) else 0
rank_advantage = (R - usual) / (spread + 1e-4)

items = count(listed and any(not eos per item) per rollout)
too_long = any(not listed @ token and not eos per rollout)
length_credit =
  if not eos then (if listed then 0 else -length_bonus)
    else if not terminated then 0
    else if items < N then -length_bonus
    else if too_long then 0 else length_bonus

advantage = (if listed and not eos then rank_advantage else 0) + length_credit
## The item's ratio: the geometric mean of its tokens' ratios.
ratio     = exp(mean(logp - old_logp per slot))

## Hits per list.
metric hits = mean(sum(hit where listed per rollout))
## Share of the lists with items beyond the last rank.
metric too_long = mean(too_long)
