extend nothing
level item in rollout
input score : real @ item
keep token where mask
# Reductions per the value's own level, and levels that are brought down explicitly.
a = sum(reward per rollout) + mean(reward where correct per rollout) + std(reward per rollout)
b = real(count(rollout per rollout) + count(correct per rollout) + count(reward per rollout))
c = (if any(correct per rollout) then 1 else 0) + max(reward, default = 7 where correct per rollout) + prod(reward where truncated per rollout)
d = mean(score per rollout) + real(count(item per rollout)) + real(max(index(item in rollout) per group))
weight = -a @ token + b @ token * c @ turn @ token + (d @ item) @ token
loss = mean(weight * logp @ token)
minimize loss
