extend nothing
input gamma : real @ rollout
input ends  : bool @ turn
keep token where mask
# A factor of the rollout, one of the turn that cuts the sum off, and one that is live.
plain = discounted(token_reward, gamma in rollout)
cut   = discounted(logp, if ends then 0 else gamma in rollout)
live  = discounted(token_reward, exp(mean(logp per turn)) in rollout)
wide  = discounted(reward, 0.5 in group)
loss  = mean(plain * logp) + mean(cut ^ 2) / 10 + mean(live) + mean(wide * mean(logp per rollout))
minimize loss
