# PS-GRPO from single comparisons.
# Faisal Hamman et al., "Improving Consistency in Retrieval-Augmented Systems with Group Similarity
# Rewards", 2025, arXiv 2510.04392.
#
# The consistency of an answer is the mean of its comparisons with answers to the question's other wordings.
#
#     Rcons_ij = sum_{u != i} sum_l sim(o_ij, o_ul) / ((n - 1) g)          all of them, or kappa s drawn ones
#
# Family: reward.
# Confidence: secondary.
# Choices: Which rollouts are compared is the sampler's matter: all g rollouts of the n - 1 other paraphrases,
# or s = 1 rollout of kappa = 3 of them (the paper's approximation). The mean is over the comparisons that the
# batch has; a rollout without any has a consistency of 0.
# To train: paraphrases, and a scorer that compares rollouts across them (`comparison/sim`).

extend ps_grpo

## The comparisons of a rollout with rollouts of other paraphrases of its question.
list comparison in rollout
## Similarity of the two, from 0 to 1.
input sim : real @ comparison

Rcons = mean(sim per rollout)
