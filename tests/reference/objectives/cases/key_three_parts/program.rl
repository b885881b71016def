extend nothing
keep token where mask
key part = (group, correct, truncated)
key spot = (group, correct, position // 2)
share = real(count(rollout per part)) / real(count(rollout per group))
swing = std(logp per spot)
loss  = mean(share * mean(logp per rollout)) + mean(swing * share @ token)
minimize loss
metric parts = count(part)
metric spots = count(spot)
