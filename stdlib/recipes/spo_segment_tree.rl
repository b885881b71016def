# SPO-tree: Segment Policy Optimization on a tree.
# Yiran Guo et al., "Segment Policy Optimization: Effective Segment-Level Credit Assignment in RL
# for Large Language Models", 2025, arXiv 2505.23564.
#
# Rollouts branch at fixed places; a segment's credit is by how much the tree below it is better
# than what its siblings average to.
#
#     V(leaf) = R        V(node) = mean of its children's values
#     A(edge) = V(child) - V(parent)
#     edges that say nothing are left out; the rest as in spo_segment
#
# Family: trees.
# Confidence: exact from code.
# Choices: A group is a tree, a rollout a path to a leaf, a segment an edge named by the node it
# leads to. An edge that several paths share is trained once, in the first of them. Values average
# children; leaf_mean = true averages leaves, as other trees do. normalise = true divides by the
# siblings' std (dividing by n) + 1e-8, the code's "grpo". An edge is left out where A + BoK(child)
# - BoK(parent) is 0 (within 1e-9, for rounding), BoK(v) = 1 - (1 - v)^4.
# To train: a tree sampler (6-6-6, 30 tokens an edge for GSM8K, 600 for MATH) that records
# `segment/node` and `segment/parent`, and a replay buffer: at most 32 edges of a question per
# iteration, none older than 8 iterations, with the log-probabilities they were sampled with.

extend spo_segment

## Whether an edge's credit is divided by the std of its siblings. Off (the code's "rloo").
param normalise = false
## Whether a node's value is the mean of the leaves below it, instead of its children's. Off (the
## code).
param leaf_mean = false

## An edge of the tree: a piece of a rollout between two branchings.
level segment in rollout
## The node that the edge leads to; unique in a tree.
input node   : int @ segment
## The node that the edge leaves.
input parent : int @ segment

key edge   = (group, parent, node)
key family = (group, parent)

# A leaf's share in a node's value: one over the product of the numbers of siblings in between.
split = log(real(count(edge per family))) @ segment
share = if leaf_mean then 1 else 1 / round(exp(rcumsum(split in rollout) - split))
## Value of the node that an edge leads to, in the unit of the reward.
node_value   = sum(share * reward per edge) / sum(share per edge)
parent_value = if leaf_mean then mean(reward @ segment per family) else mean(node_value per family)
siblings_std = std(node_value, ddof = 0 per family)
gap          = node_value - parent_value
# Siblings equal up to rounding are equal.
edge_gain    = if not normalise then gap
               else if siblings_std > 1e-9 then gap / (siblings_std + 1e-8) else 0

fn best_of_four(v) = 1 - (1 - v) ^ 4
signal  = abs(edge_gain + best_of_four(node_value) - best_of_four(parent_value)) > 1e-9
## Whether the edge is trained, here: in the first path that runs through it.
counted = is_first(segment in edge) and signal @ segment

gain    = edge_gain @ token
trained = low and counted
kl_loss = if kl_token_mean then base.kl_loss
          else mean(sum(penalty @ token where trained per segment) where counted)

## Mean number of trained edges of a tree.
metric edges = mean(count(counted per group))
