# BranchGRPO: GRPO with structured branching for diffusion models.
# Yuming Li et al., "BranchGRPO: Stable and Efficient GRPO with Structured Branching in Diffusion
# Models", 2025, arXiv 2509.06040.
#
# Denoising trajectories form a tree: a step is worth the mean reward of the images below it,
# compared with the steps of the same depth.
#
#     V(n) = mean reward of the leaves below node n
#     A(n) = clip((V(n) - mean) / (std + 1e-8), -5, 5)        over the tree's nodes of that depth
#     L    = mean over trees, mean over edges e of -min(r_e A(e), clip(r_e, 1 - c, 1 + c) A(e))
#
# Family: trees.
# Confidence: exact from code.
# Choices: A group is a tree, a rollout a path from its root to a leaf, a token an edge (one
# denoising step) named by the node it leads to. An edge that several paths share is trained once,
# in the first of them. A = 0 where a depth has one node or a std below 1e-6. fusion = 1 weighs
# children by their edges' probabilities when sampled, 2 weighs them alike; use_group = true gives
# the group-normed reward to leaf edges and 0 to the rest. fusion = 1 and use_group are options of
# the code. Depth pruning is the code's window. Width pruning (width_mode), off in the code, drops
# edges after the last split, where one path is left: 1 keeps the best paths of each last split, at
# least one; 2 the best and the worst of the tree, half of the kept share each (our reading). Pruned
# edges leave the denominator.
# To train: a flow policy whose steps are tokens, and a sampler that splits (at steps 0, 3, 6, 9 of
# 20) and records `token/node`, `token/depth` and, where used, `token/parent`, `token/is_sde`.

extend grpo

## How far the ratio may fall below 1. No unit; 1e-3 (the script; the argument's default is 1e-4).
param clip_low  = 1e-3 in [0, 1]
## How far the ratio may rise above 1. No unit; 1e-3 (the script).
param clip_high = 1e-3 in [0, inf]
## Largest size of an advantage. In standard deviations; 5 (the code).
param max_advantage = 5.0 in [0, inf]
## What a node's value is: 0 the mean of the leaves below it, 1 of its children weighed by their
## edges' probabilities, 2 of its children alike. 0 (the code; 1 is its option).
param fusion = 0 in [0, 2]
## Whether leaf edges get the group-normed reward and the others 0. Off (the code).
param use_group = false
## How many neighbouring depths are pruned. Depths; 0, which is off (our choice).
param prune_width = 0 in [0, inf]
## First of the depths that are pruned, at the beginning. A depth; 0 (our choice).
param prune_from  = 0 in [0, inf]
## Steps after which the window moves one depth towards the root. Training steps; 30 (the code).
param prune_interval = 30 in [1, inf]
## Least depth that the window moves to. Depths; 9 (the code).
param prune_stop  = 9 in [0, inf]
## Which paths are kept after their last split: 0 all, 1 the best of each split, 2 the tree's best
## and worst. 0 (the code).
param width_mode  = 0 in [0, 2]
## Share of the paths that width_mode keeps. No unit; 0.5 (the code).
param width_ratio = 0.5 in [0, 1]
## Share of the training in which edges are pruned. No unit; 1 (our choice).
param prune_until = 1.0 in [0, 1]

## The node that a step leads to; unique in a tree.
input node  : int @ token
## Depth of that node: 1 below the root.
input depth : int @ token
## The node that a step leaves; read where fusion is not 0.
input parent : int @ token
## Whether the step was sampled with noise; only such steps are trained.
input is_sde : bool @ token = true

key edge   = (group, depth, node)
key layer  = (group, depth)
key family = (group, parent)

## Whether this is the first path of the tree that runs through the edge.
owned = is_first(token in edge)
# Share of an edge among its siblings; of a leaf below a node, the product along the path.
log_share = if fusion == 1 then old_logp - logsumexp(old_logp where owned per family)
            else -log(real(count(owned per family)))
below     = exp(rcumsum(log_share in rollout) - log_share)
## Value of the node that an edge leads to, in the unit of the reward.
node_value = if fusion == 0 then mean(reward @ token per edge)
             else sum(reward @ token * below per edge)

spread = std(node_value per layer)
raw    = if spread < 1e-6 then 0 else (node_value - mean(node_value per layer)) / (spread + 1e-8)
leaf   = if is_last(token in rollout) then norm(reward, eps = 1e-8) else 0
credit = if use_group then leaf else raw @ token
## Credit of an edge, in standard deviations of its depth's values.
advantage = clip(credit, -max_advantage, max_advantage)

window = max(prune_from - train.step // prune_interval, min(prune_stop, prune_from))
in_window = depth >= window and depth < window + prune_width

# The node of a path's last split: the last that another path runs through too; 0 for the root.
alone = count(token per edge) == 1
split_node  = last(node where not alone @ token per rollout)
split_depth = last(depth where not alone @ token per rollout)
key fork = (group, split_depth, split_node)
final    = last(credit per rollout)
## Whether the path is kept after its last split.
best     = top(final, max(1, floor(width_ratio * count(reward per fork))) in fork)
half     = max(1, floor(width_ratio * count(reward per group) / 2))
place    = rank(final in group)
extreme  = place < half or place >= count(reward per group) - half
narrowed = alone @ token and not (if width_mode == 1 then best else extreme)

pruning = if prune_width == 0 and width_mode == 0 then false
          else train.step <= prune_until * train.total
pruned  = if not pruning then false
          else if width_mode == 0 then in_window else narrowed or in_window
## Whether the edge is trained, here.
trained = owned and is_sde and not pruned
loss    = mean(mean(token_loss where trained per group))

## Share of the trained edges whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where trained)
## Mean number of trained edges of a tree.
metric edges = mean(count(trained per group))
