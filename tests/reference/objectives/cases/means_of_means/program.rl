loss = mean(mean(mean(token_loss per rollout) per group))
