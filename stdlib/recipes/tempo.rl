# TEMPO: Tree-Estimated Mean Prefix value for Policy Optimization.
# Hieu Tran et al., "Exploiting Tree Structure for Credit Assignment in RL Training of LLMs", 2025,
# arXiv 2509.18314; also called P2T.
#
# The rollouts of a prompt are a tree of prefixes: where they part, a token is credited with how much the
# mean reward of the rollouts below it differs from that before it.
#
#     V(s) = mean R of the group's rollouts that begin with s          V(empty) = mean_G R
#     A_t  = (R_i - mean_G R + V(s_{t+1}) - V(s_t)) / (std_G R + eps)          L as in grpo
#
# Family: trees.
# Confidence: secondary.
# Choices: The notes do not say which deviation; ddof = 1 and eps 1e-6. Clip and aggregation are GRPO's. Only
# the policy's tokens make a prefix, so that observations that differ by chance part no rollouts;
# `whole_prefix` counts every token.

extend grpo

## Whether observations are part of the prefix too. A switch; false (the notes' choice).
param whole_prefix = false

# No token is removed, as a rollout's prefix may end in an observation; means go over the policy's tokens.
loss_mask = true
fn token_mean(x) = mean(x @ token where mask)
fn seq_mean(x)   = mean(mean(x @ token where mask per rollout))

# The policy's tokens, moved to the front of their rollout; behind them -1, which is no token.
own    = cumsum(int(mask) in rollout)
order  = sort(if mask then position else position + length in rollout)
packed = if position < max(own per rollout) then pick(action, order, -1 in rollout) else -1
place  = if whole_prefix then position else own - 1

key node = prefix(if whole_prefix then action else packed in group)

usual  = mean(reward per group)
## Mean reward of the rollouts that share the prefix which ends here.
shared = mean(reward @ token per node) @ token
## Value of the prefix that ends with the token, and of that before it.
after  = pick(shared, place, usual in rollout)
before = pick(shared, place - 1, usual in rollout)
## What the token changed, in the unit of the reward.
gain   = after - before

advantage = (reward - usual + gain) / (std(reward per group) + 1e-6)

## Share of the tokens at which rollouts part.
metric branching = token_mean(gain != 0)
