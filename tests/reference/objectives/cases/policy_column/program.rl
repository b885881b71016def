extend nothing
policy head : real @ token
input target : real @ token
keep token where mask
loss = mean((head - target) ^ 2) - 0.1 * mean(head * logp)
minimize loss
