# RAE: Role-conditioned Advantage Estimation.
# PrimeIntellect-ai/prime-rl, per-agent baselines; Bo Liu et al., "SPIRAL: Self-Play on Zero-Sum Games
# Incentivizes Reasoning via Multi-Agent Multi-Turn Reinforcement Learning", 2025, arXiv 2506.24119.
#
# Each agent has a running mean of its rewards as the baseline, kept from step to step.
#
#     A_i = R_i - b(agent_i)          b(a) <- decay b(a) + (1 - decay) mean of R of the rollouts of a
#     L   = sum_t -A_i logp_t / (number of tokens in the batch)
#
# Family: agents.
# Confidence: secondary.
# Choices: the baseline before this batch is subtracted; the moving average takes the mean reward of each
# agent's rollouts in the batch at once, where the authors go rollout by rollout. decay 0.95 is the authors'.
# The policy gradient has no ratio, as theirs.
# To train: `rollout/agent`, which role wrote the rollout.

extend bnpo

## Which agent wrote the rollout. An int.
input agent : int @ rollout

## How slowly a baseline moves. No unit; 0.95 (SPIRAL).
param decay = 0.95 in [0, 1]

## Running mean reward of each agent.
state baseline[agent] : real @ rollout = 0.0
update baseline = decay * baseline + (1 - decay) * reward

## Credit of a token, in the unit of the reward.
advantage = reward - baseline
surrogate = advantage * logp

## Share of the tokens whose gradient a clip takes away: there is no clip.
metric clip_fraction = 0
