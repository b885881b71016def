# HRPO (MasHost): Hierarchical Relative Policy Optimization.
# "MasHost Builds It All: Autonomous Multi-Agent System Directed by Reinforcement Learning", 2025,
# arXiv 2506.08507.
#
# A graph of agents is built step by step: choose a node, then its edges. The system's success is compared
# in the group, and every step pays for what it costs.
#
#     logp_s = lp_node_s + lp_edge_s                u_s = 0 while s < s_exempt
#     A_s    = z_G(R)_i + lam (G_s - mean_G G)      G_s = sum_{s' >= s} u_s'
#     L      = mean_s -min(r_s A_s, clip(r_s, 1 - low, 1 + high) A_s)
#
# A row of the token level is one construction step.
#
# Family: agents.
# Confidence: reconstructed.
# Choices: Read from the abstract and public reviews. Invented: lam 1; the return-to-go is centred over
# all steps of the group; the exemption is a number given with the batch, so that it may grow or shrink;
# z_G has the sample std and eps 1e-6.
# To train: a sampler that builds agent graphs and records `token/lp_node`, `token/lp_edge` with their
# gradient, `token/old_logp` of their sum, `token/u_s` and `batch/s_exempt`.

extend bnpo

## Weight of the steps' rewards beside the outcome's. No unit; 1.0 (ours; none is published).
param lam = 1.0

## Log-probability of the step's node under the policy, in nats.
policy lp_node : real @ token
## Log-probability of the step's edges given the node, in nats.
policy lp_edge : real @ token
## Reward of a step: minus its cost and minus its redundancy.
input u_s : real @ token
## Number of first steps that pay nothing.
input s_exempt : int @ batch = 0

logp = lp_node + lp_edge

## Reward of a step, past the exemption.
charged   = if position < s_exempt then 0 else u_s
## Sum of the rewards from a step on.
to_go     = rcumsum(charged in rollout)
advantage = norm(reward) + lam * (to_go - mean(to_go per group))

## Mean reward of a rollout's steps together.
metric charged = mean(sum(charged per rollout))
