# Hierarchical GRPO: proposers and solvers.
# PrimeIntellect-ai/prime-rl, algorithm "hierarchical_grpo".
#
# One agent proposes problems and another solves them: attempts are compared with the attempts at the same
# problem, proposals with the proposals of the same group, and never one with the other.
#
#     A_i = R_i - mean of R over the rollouts with i's group and agent (a solver: and problem)
#     L   as in prime_rl
#
# Family: agents.
# Confidence: exact from code.
# Choices: the loss is prime_rl's, without which only the advantage is defined. A rollout that nothing is
# compared with has A = 0.
# To train: `rollout/agent`, which role wrote the rollout, `rollout/problem`, the number of the problem it
# belongs to, and the sampler's own log-probabilities, `token/sampler_logp`.

extend prime_rl

## Number of the role whose rollouts are compared within one problem. 1 (ours; prime-rl names it "solver").
param solver = 1

## Which role wrote the rollout. An int.
input agent : int @ rollout
## Number of the proposed problem the rollout belongs to; only equality inside a group counts.
input problem : int @ rollout

within    = if agent == solver then problem else -1
key peers = (group, agent, within)

## Credit of a token, in the unit of the reward.
advantage = if count(rollout per peers) > 1 then reward - mean(reward per peers) else 0

## Share of the rollouts that are compared with others.
metric compared = mean((count(rollout per peers) > 1) @ rollout)
