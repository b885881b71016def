extend nothing
keep token where mask
drop rollout where truncated and correct
share  = mean(correct per group)
solved = count(correct per group)
size   = count(rollout per group)
some   = any(correct per group)
every  = all(correct per group)
long   = count(token per rollout) >= 2
weight = share + real(solved) / 4 + (if some then 1 else 0) + (if every then 2 else 0) + sum(correct per group)
loss   = mean((weight + int(correct) + real(long)) @ token * logp)
minimize loss
metric share_long = mean(long)
metric not_equal  = mean(correct != long)
