# Training-Free GRPO: the group selector.
# "Training-Free Group Relative Policy Optimization", 2025, arXiv 2510.08191.
#
# No weights change: for every group with right and wrong rollouts a language model writes down what made
# the difference, into a memory that goes with the prompt. Which groups count is all an objective can say.
#
#     keep_G = 0 < mean_G R < 1          L as in grpo, over the kept groups
#
# Family: sampling.
# Confidence: exact from code.
# Choices: The loss is grpo's, so that the selector can be used with a gradient too; the method itself
# computes none.
# To train: rewards in [0, 1]. The critiques and the memory are the host's.

extend grpo

keep group where mean(reward per group) > 0 and mean(reward per group) < 1

## Number of groups that are kept.
metric kept_groups = count(group)
