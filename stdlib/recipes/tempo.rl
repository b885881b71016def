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
# Choices: The notes do not say which deviation; ddof = 1 and eps 1e-6. Clip and aggregation are GRPO's. All
# tokens make the prefix, those of tools too: rollouts that saw something else are somewhere else. The value
# before a token is that after the policy's last token.

extend grpo

key node = prefix(action in group)

usual  = mean(reward per group)
## Value of the prefix that ends with the token: the mean reward of the rollouts that share it.
after  = mean(reward @ token per node)
before = prev(after @ token, usual in rollout)
## What the token changed, in the unit of the reward.
gain   = after - before

advantage = (reward - usual + gain) / (std(reward per group) + 1e-6)

## Share of the tokens at which rollouts part.
metric branching = token_mean(gain != 0)
