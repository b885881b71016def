# CalibAdv from retrieved documents.
# "Calibrating (negative) advantages in GRPO for deep search", arXiv 2604.18235; code in wujwyi/CalibAdv.
#
# A search was a correct step to the share of its documents that the group's best correct rollouts found too.
#
#     D_g = documents of the correct rollouts of largest reward
#     q_s = (documents of turn s that are in D_g and in no earlier turn) / (documents of turn s)
#     q_s = 0 where the turn repeats an earlier one, the format is bad, or no rollout of the group is correct
#     A_t, L as in calibadv
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: The code's calculator "old", the one it used. A document that a turn has twice counts twice. Whether
# thoughts repeat earlier ones is a column, as the batch has no words.
# To train: a sampler that records the documents of each turn (`document/doc`), whether the rollout's format is
# good (`rollout/fmt`), and whether a turn's thoughts are alike to earlier ones to more than 0.5
# (`turn/rethought`): 1 less their edit distance in words over the longer one's number of words.

extend calibadv

## The documents that the turn's search brought.
list document in turn
## Identity of the document.
input doc : int @ document
## Whether the rollout's format is good.
input fmt : bool @ rollout
## Whether the turn's thoughts repeat those of an earlier one.
input rethought : bool @ turn = false

## From which reward on a rollout is correct. Reward; 0.7 (the code).
param correct_from = 0.7
## From how many documents in common with one earlier turn on a turn repeats it. A count; 2 (the code).
param repeat_from = 2 in [1, inf]

key found = (group, doc)
key seen  = (rollout, doc)

right  = fmt and reward >= correct_from
best   = right and reward == max(reward, default = 0 where right per group)
silver = any(best @ document per found)
place  = index(turn in rollout) @ document
## Whether the document is a best rollout's, at its first sight.
hit    = silver and place == min(place per seen)

# Documents that a turn has in common with one earlier turn.
key match  = pairs(document in rollout)
key shared = (rollout, left(place in match), right(place in match))
common = left(doc in match) == right(doc in match) and right(place in match) < left(place in match)
again  = any(any(count(common per shared) >= repeat_from @ match per match.left) per turn)

step_correct = if fmt and not rethought and not again then mean(hit per turn) else 0

## Share of the documents that are hits.
metric hits = mean(hit)
