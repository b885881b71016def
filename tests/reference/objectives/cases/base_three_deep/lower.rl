extend gspo_token
param clip_low = 0.1
param clip_high = 0.3
advantage = center(reward)
weight = 1
token_loss = base.token_loss + 0.01 * weight
