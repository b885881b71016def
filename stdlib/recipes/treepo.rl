# TreePO: tree-based policy optimization.
# Yizhi Li et al., "TreePO: Bridging the Gap of Policy Optimization and Efficacy and Inference
# Efficiency with Heuristic Tree-based Modeling", 2025, arXiv 2508.17445.
#
# A rollout is compared with the rollouts that share its beginning, at every depth of the tree they
# were sampled from.
#
#     a_id = R_i - mean R of the rollouts that share i's first d segments
#     d = 0: the whole group
#     A_i  = mean of a_id over d = 0 and the depths at which more than one rollout is left
#     A    = (A_i - mean_tokens A) / sqrt(var_tokens A + 1e-8)
#     L    = sum_t -dual clip(r_t, A; 0.8, 1.28, 10) / (tokens in the batch)
#
# Family: trees.
# Confidence: exact from code.
# Choices: A group of one keeps its reward at depth 0, as in the code. by_size = true weighs depths
# by their number of rollouts, skip_equal = true leaves out subgroups of equal rewards: both options
# of the code. The whitening weighs long rollouts more. The recipe also samples until no group is of
# equal rewards (filter_equal = true drops them here) and has DAPO's overlong penalty, which is the
# reward's. by_segment = true is the code's ablation: leaves are worth their size-weighted A_i,
# nodes the mean of their children, the root 0; a segment's tokens get V(node) - eta^k V(parent),
# whitened. That k is the parent's depth, and eta = 1, is our reading.
# To train: a tree sampler that cuts rollouts into segments (512 tokens, at most 14) and records
# `segment/node`: which child of the shared beginning a segment is.

extend dapo

## Largest ratio that multiplies a negative advantage. A ratio; 10 (the code).
param clip_ratio_c = 10.0 in [1, inf]
## Whether depths are weighed by their number of rollouts. Off (the code's "average").
param by_size = false
## Whether subgroups of equal rewards are left out. Off (the code).
param skip_equal = false

## Whether every segment has a credit of its own, from the values of the nodes. Off (the code).
param by_segment = false
## Discount of a parent's value for each of its depths, with by_segment. No unit; 1 (our choice).
param eta = 1.0 in [0, inf]
## Whether groups of equal rewards are dropped, as in DAPO's dynamic sampling. Off, as in dapo.
param filter_equal = false

drop group where filter_equal and max(reward per group) == min(reward per group)

## A piece of a rollout between two branchings.
level segment in rollout
## Identity of the segment among the children of its beginning.
input node : int @ segment

key subgroup = prefix(node in group)

outcome = reward @ segment
leaves  = count(segment per subgroup)
varied  = max(outcome per subgroup) > min(outcome per subgroup)
counted = leaves > 1 and (varied or not skip_equal)
gap     = outcome - mean(outcome per subgroup) @ segment
sized   = by_size or by_segment
size    = if sized then real(leaves) else 1

group_count = count(reward per group)
root_gap    = if group_count == 1 then reward else center(reward)
root_size   = if sized then real(group_count) else 1
branches    = sum(gap * (size @ segment) where counted @ segment per rollout)
weights     = sum(size @ segment where counted @ segment per rollout)
## How much better a rollout is than those it shares beginnings with, in the unit of the reward.
compared    = (root_gap * root_size + branches) / (root_size + weights)

# A node's parent is the node of the segment before; a leaf's share in a node's value is one over
# the product of the numbers of siblings in between.
stem = prev(index(subgroup in group) @ segment, -1 in rollout)
key limb   = (group, stem, node)
key family = (group, stem)
split = log(real(count(limb per family))) @ segment
share = 1 / round(exp(rcumsum(split in rollout) - split))
## Value of the node that a segment leads to, in the unit of the reward.
node_value   = (sum(share * compared per limb) / sum(share per limb)) @ segment
segment_gain = node_value - eta ^ index(segment in rollout) * prev(node_value, 0 in rollout)

## Credit of a token, in standard deviations over the batch's tokens.
advantage = batch_norm(if by_segment then segment_gain @ token else compared @ token)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)

## Mean number of depths, beside the root, at which a rollout is compared.
metric depths = mean(count(counted @ segment per rollout))
