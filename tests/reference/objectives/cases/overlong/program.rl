extend dapo
param max_len = 5
param buffer  = 2
overlong  = clip((length - (max_len - buffer)) / buffer, 0, 1)
advantage = group_norm(reward - overlong)
loss_mask = mask and not truncated
