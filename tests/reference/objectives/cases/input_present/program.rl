extend nothing
input weight : real @ turn = 0.5
keep token where mask
loss = -mean(weight * logp)
minimize loss
