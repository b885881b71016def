# Turns as the elements of an ordered operator and of a group's statistics.
ret       = rcumsum(step_reward in rollout)
advantage = norm(ret per group)
loss      = token_mean(token_loss)
