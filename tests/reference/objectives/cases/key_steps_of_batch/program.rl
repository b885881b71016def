# Every step of the batch weighs alike: the mean over tokens of one place, then over places.
extend nothing
key step = (position,)
keep token where mask
ratio = exp(logp - old_logp)
adv   = reward - mean(reward per group)
loss  = mean(mean(-clipped(ratio, adv, 0.2, 0.2) per step))
minimize loss
metric steps = count(step)
