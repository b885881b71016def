extend nothing
param tau   = 1.0
param beta  = 10.0
param delta = 0.01
keep token where mask
key duel = pairs(rollout in group)
score  = mean(logp per rollout)
valid  = left(correct in duel) and not right(correct in duel)
# For each right answer, the soft maximum over the wrong ones of its group.
rivals = count(valid per duel.left)
worst  = tau * (logsumexp(right(score in duel) / tau where valid per duel.left) - log(real(max(rivals, 1))))
margin = mean(score - worst where rivals > 0 per group)

# The squared hinge's weight reads the policy of the whole batch.
kl   = mean(old_logp - logp)
loss = -mean(margin) + detach(max(beta * (kl - delta), 0)) * kl
minimize loss
