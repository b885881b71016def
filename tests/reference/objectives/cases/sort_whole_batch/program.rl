extend nothing
param share = 0.4
keep token where mask
# The excess of the least certain tokens over the rest, by order statistics of the batch.
sorted = sort(entropy in batch)
place  = index(token in batch)
high   = place >= count(token) - floor(share * count(token))
loss   = mean(sorted where high) - mean(sorted where not high) - 0.1 * mean(logp)
minimize loss
