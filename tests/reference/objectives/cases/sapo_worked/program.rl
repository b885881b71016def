extend sapo
input credit : real @ rollout
advantage = credit
# Sums, so that the gradients are those of the recipe's table.
loss = sum(token_loss)
