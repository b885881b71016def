# test: grad
# Operators that look along the rows, over kept tokens.
extend nothing
keep token where mask
x = logp - old_logp
w = value
# --- next
minimize mean(next(x, 0.0 in rollout) * w)
# --- prev
minimize mean(prev(x * w, 1.0 in rollout) * x)
# --- next by two
minimize mean(next(x, 0.5, by = 2 in rollout) * w)
# --- a live default
minimize mean(next(x, w in rollout) ^ 2)
# --- cumsum
minimize mean(cumsum(x in rollout) * w)
# --- rcumsum
minimize mean(rcumsum(x * w in rollout) ^ 2)
# --- cumsum in turns
minimize mean(cumsum(x in turn) * w)
# --- cumsum of turns
minimize mean(cumsum(mean(x per turn) in rollout) ^ 2)
# --- cumsum of rollouts in their group
minimize mean(cumsum(mean(x per rollout) in group) ^ 2)
# --- ends
minimize mean((if is_first(token in rollout) then x else 0) + (if is_last(token in turn) then w else 0))
# --- weights by index
minimize mean(x * index(token in rollout) + w * index(turn in rollout))
# --- differences
minimize mean((w - prev(w, 0.0 in rollout)) ^ 2)
# --- rank weighs
minimize mean(x * rank(reward in group))
