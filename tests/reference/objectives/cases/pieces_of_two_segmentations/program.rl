extend nothing
level item in rollout
input score : real @ item
# Where a turn and an item overlap; `position` makes tokens the finest part.
key piece = (turn, item, position >= 0)
size   = count(token per piece)
cuts   = count(piece per turn)
spans  = count(piece per item)
weight = step_reward @ piece + score @ piece + 0.1 * size
loss   = mean(weight * logp) + 0.1 * mean(cuts * mean(logp per turn)) + 0.1 * mean(spans * mean(logp per item))
minimize loss
metric pieces = count(piece)
