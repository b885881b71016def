# DPO: Direct Preference Optimization.
# Rafael Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward
# Model", 2023, arXiv 2305.18290.
#
# The log-ratio of a rollout to the reference is its reward, and a pair's rewards say which was chosen.
#
#     a = sum_t (logp_t - ref_logp_t) of the chosen       z = the same of the rejected       D = a - z
#     L = mean over pairs of -log sigmoid(beta D)
#
# Family: preferences.
# Confidence: exact from code.
# Choices: the members of a pair are the rollouts of one group with one `pair_id`; without that column a
# group is a pair. A pair that lacks either side is dropped; of several chosen or rejected rollouts the
# mean score counts.
# To train: rollouts in pairs, with `rollout/is_chosen` (and `rollout/pair_id` where a group holds more
# than one pair).

extend nothing

## Which pair of its group a rollout belongs to. An int; all of a group are one pair without it.
input pair_id : int @ rollout = 0
## Whether the rollout is the preferred one of its pair.
input is_chosen : bool @ rollout

key pair = (group, pair_id)

## How much a log-ratio is worth. Per nat; 0.1 (the paper; TRL, beta).
param beta = 0.1 in [0, inf]

## The tokens whose log-probabilities count.
loss_mask = mask
keep token where loss_mask
keep rollout where any(is_chosen per pair) and any(not is_chosen per pair)

## Log-ratio of a token to the reference policy, in nats.
token_score = logp - ref_logp
## The rollout's implicit reward, in nats.
score       = sum(token_score per rollout)
chosen      = mean(score where is_chosen per pair)
rejected    = mean(score where not is_chosen per pair)
## How much more the chosen one gained, in nats.
margin      = chosen - rejected
pair_loss   = -log_sigmoid(beta * margin)
loss        = mean(pair_loss)

minimize loss

## Share of the pairs whose chosen rollout has the larger score.
metric accuracy    = mean(margin > 0)
## Mean margin of the pairs, in nats.
metric mean_margin = mean(margin)
