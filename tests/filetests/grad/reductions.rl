# test: grad
# Every reduction with a gradient, at several levels, with and without `where`.
extend nothing
keep token where mask
level item in rollout
x = logp - old_logp
w = value
# --- sum
minimize mean(sum(x per rollout) ^ 2)
# --- mean
minimize mean(mean(x per rollout) ^ 2)
# --- mean of means
minimize mean(mean(mean(mean(x * w per turn) per rollout) per group) ^ 2)
# --- min, max
minimize mean(min(x per rollout) * max(w per rollout))
# --- min, max per group, of a broadcast value
minimize mean(max(mean(x per rollout) @ token per group) * w)
# --- var
minimize mean(var(x per group) + 2 * var(x, ddof = 0 per group))
# --- std
minimize mean(std(x per group) + 2 * std(w, ddof = 0 per group))
# --- first, last
minimize mean(first(x per rollout) * last(w per rollout))
# --- prod
minimize mean(prod(1 + 0.3 * x per rollout))
# --- logsumexp
minimize mean(max(logsumexp(x per rollout), -9.0))
# --- quantile
minimize mean(quantile(x, 0.3 per group) ^ 2)
# --- quantile over the batch
minimize quantile(x * w, 0.75)
# --- where
minimize mean(sum(x where old_logp < -1 per rollout) * mean(w where old_logp > -2 per turn))
# --- a live condition
minimize mean(sum(x ^ 2 where w > 0.2 per rollout))
# --- values come back down
minimize mean((x - mean(x per group)) / (std(x per group) + 0.1) * w)
# --- softmax over a group
minimize mean(exp(x - logsumexp(x per group)) * w)
# --- per a declared segmentation
minimize mean(mean(x per item) * mean(w per item))
# --- segmentations meet below
minimize mean((mean(x per turn) @ token) * (mean(w per item) @ token))
# --- per batch
minimize var(x) + log(mean(exp(x)))
# --- defaults
minimize mean(max(x where old_logp > 0, default = 0.5 per rollout) + x)
# --- a mean over levels that were emptied
minimize mean(mean(x where position > 2 per turn) per rollout) |> mean
# --- filters: the turns and rollouts that are left
keep turn where step_correct > 0.3
drop rollout where truncated
minimize mean(mean(x per rollout) ^ 2) + mean(sum(w per turn) ^ 2)
# --- a live filter
keep token where w > -0.5
minimize mean(x ^ 2)
