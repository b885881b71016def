extend nothing
policy head : real @ token
keep token where mask
# y = x + gamma * next y, with a gamma of each token's own; gradient to x and to gamma.
to_go = discounted(logp, sigmoid(head) in rollout)
loss  = mean(to_go ^ 2) / 10
minimize loss
