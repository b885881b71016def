extend nothing
param order = 2.0
param tsallis_order = 1.5
keep token where mask
probs   = softmax(logits)
renyi   = log(sum(probs ^ order per token)) / (1 - order)
tsallis = (1 - sum(probs ^ tsallis_order per token)) / (tsallis_order - 1)
unlikely = 1 - sum(probs ^ 2 per token)
loss    = -mean(renyi) + 0.3 * mean(tsallis ^ 2) - 0.1 * mean(unlikely * token_reward)
minimize loss
metric entropy = mean(entropy)
