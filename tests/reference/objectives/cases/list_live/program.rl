extend nothing
list criterion in rollout
input weight : real @ criterion
keep token where mask
# A rollout's live value meets its rows, and comes back.
bend = sum(tanh(weight * mean(logp per rollout)) per rollout)
loss = mean(bend)
minimize loss
