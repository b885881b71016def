extend nothing
input kind : int @ token
keep token where mask
key part = (turn, kind)
spread = std(logp per part)
loss   = mean(mean(spread per turn) + 0.1 * mean(logp per turn))
minimize loss
metric parts = count(part)
