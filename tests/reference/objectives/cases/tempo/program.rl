# The value of a prefix is the mean reward of the rollouts that begin with it.
key node  = prefix(action in group)
usual     = mean(reward per group)
after     = mean(reward @ token per node)
before    = prev(after @ token, usual in rollout)
advantage = (reward - usual + (after @ token - before)) / (std(reward per group) + 1e-4)
loss      = seq_mean(token_loss)
