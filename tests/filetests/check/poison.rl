# test: check
# Everything downstream of one wrong name stays silent.
advantage = group_norm(rewards_of_nobody)       #~ E0101 cannot find `rewards_of_nobody`
surrogate = advantage * ratio
extra = mean(advantage per group) * mean(advantage @ token per rollout)
token_loss = -surrogate + extra
metric m = mean(extra)
