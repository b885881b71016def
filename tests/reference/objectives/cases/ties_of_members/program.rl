extend nothing
policy head[3] : real @ token
keep token where mask
most  = max(head[k] for k in 1..3)
least = min(-k * 0 + head[k] for k in 1..3)
loss  = mean(logp * most) - 0.5 * mean(least) + mean(max(head[1], head[2], head[3]) ^ 2)
minimize loss
