extend nothing
level item in rollout
keep token where mask
# Two sums of which one needs whole turns and the other whole items: only rollouts hold both.
loss = mean(exp(mean(logp per turn))) + mean(exp(mean(logp per item)))
minimize loss
