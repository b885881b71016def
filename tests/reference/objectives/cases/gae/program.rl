# Generalised advantage estimation with gamma and lambda apart, and the critic's return.
param gamma  = 0.95
param lambda_ = 0.9
delta     = token_reward + gamma * next(old_value, 0 in rollout) - old_value
gae       = discounted(delta, gamma * lambda_ in rollout)
advantage = batch_norm(gae)
loss      = token_mean(token_loss) + 0.5 * token_mean((value - (gae + old_value)) ^ 2)
