extend nothing
level candidate in token
input cand_id : int @ candidate
input noise   : real @ candidate
# Soft thinking: the density of the noise that mixed the candidates, under the policy among them.
keep token where mask
keep token where count(candidate per token) > 0
z       = at(logits, cand_id)
share   = z - logsumexp(z per token)
gap     = clip(noise - share, -1.5, 3)
density = mean(-gap - exp(-gap) where share > -3 per token)
spread  = std(share per token)
loss    = -mean(mean(density per rollout) * (reward - mean(reward per group))) - 0.1 * mean(spread)
minimize loss
