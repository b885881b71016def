extend nothing
policy mtp_logits[2] : real @ vocab
param lam = 0.3
keep token where mask
# The heads' coefficient is calibrated by the batch: as strong as the policy's loss, but no more than lam.
advantage = group_norm(reward)
main      = -token_mean(clipped(exp(logp - old_logp), advantage, 0.2, 0.2))
heads     = -mean(token_mean(at(log_softmax(mtp_logits[k]), action)) for k in 1..2)
loss      = main + detach(min(lam, abs(main) / heads)) * heads
minimize loss
metric coefficient = min(lam, abs(main) / heads)
