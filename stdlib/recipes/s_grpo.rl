# S-GRPO: Serial-Group Decaying-Reward Policy Optimization.
# Muzhi Dai et al., "S-GRPO: Early Exit via Reinforcement Learning in Reasoning Models", 2025,
# arXiv 2505.07686.
#
# One train of thought is cut at several places and made to answer there: the first cut that answers
# correctly earns most, every later one half as much.
#
#     R_j = decay^(N_j - 1) if correct, else 0          N_j: correct answers up to j, in the order of the cuts
#     A_j = R_j - mean_G R          L = mean_j mean_t -min(r_t A_j, clip(r_t, 1 - low, 1 + high) A_j)
#
# Family: reward.
# Confidence: secondary.
# Choices: The decay counts correct answers, as in the notes; a third-party version counts cuts. The clip is not
# stated; 0.2. Which tokens carry the loss is `mask`'s matter: the words that force the answer were not sampled
# and should be masked; with the shared thinking unmasked, its tokens get the sum of the advantages.
# To train: a sampler that cuts a rollout's thinking, forces an answer at each cut, and puts the members of one
# train of thought into one group with their place (`rollout/exit`; the uncut one has the largest).

extend grpo

## Where the member's thinking was cut, or any number in that order.
input exit : int @ rollout

## What each correct answer before leaves of the reward. A share; 0.5 (the paper).
param decay = 0.5 in [0, 1]

place = rank(exit in group)
key duel = pairs(rollout in group)
## Correct members that were cut earlier.
sooner = count(right(correct in duel) and right(place in duel) < left(place in duel) per duel.left)

reward    = if correct then decay ^ sooner else 0
advantage = center(reward)

## Where the first correct answer is, as a share of the group's cuts, among groups that have one.
metric first_correct = mean(min(place, default = 0 where correct per group) / count(rollout per group)
                            where any(correct per group))
