extend nothing
keep token where mask
key paid = runs(token_reward == 0 in rollout)
# A run goes on over tokens that the mask takes out; one without a kept token is not there.
gain  = mean(exp(logp) per paid)
size  = count(token per paid)
share = mean(gain per rollout)
loss  = -mean(share ^ 2) + 0.1 * mean(size * logp)
minimize loss
metric runs = mean(count(paid per rollout))
