extend nothing
keep token where mask
key cell = (group, position)
place = rank(old_logp in cell)
top_  = top(token_reward, 1 in cell)
flow  = discounted(logp, 0.5 in cell)
low   = sort(old_logp in cell)
peak  = argmax(old_logp in cell)
turn_ = pick(logp, 1, old_logp in cell)
clean = scan_and(token_reward >= 0 in cell)
loss  = mean(flow ^ 2) / 10 + mean((place + low + 0.1 * peak) * logp) + mean(logp where top_) + mean(turn_ ^ 2) + mean(logp where clean)
minimize loss
