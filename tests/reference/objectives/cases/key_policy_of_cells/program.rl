extend nothing
policy head : real @ token
keep token where mask
key cell = (group, position)
# Two live columns; the head's spread in a cell and the policy's mean meet there.
loss = mean(mean(logp per cell) * std(head per cell)) + mean(mean(head per cell) ^ 2)
minimize loss
