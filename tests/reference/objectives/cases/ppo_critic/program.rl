extend nothing
## Weight of the critic's loss (TRL: 0.1; here 0.5).
param vf_coef    = 0.5
param value_clip = 0.2
keep token where mask
# GAE with gamma = lambda = 1, over kept tokens only.
delta     = token_reward + next(old_value, 0 in rollout) - old_value
gae       = rcumsum(delta in rollout)
ret       = gae + old_value
advantage = batch_norm(gae)
ratio     = exp(logp - old_logp)
bounded   = old_value + clip(value - old_value, -value_clip, value_clip)
critic    = 0.5 * mean(max((value - ret) ^ 2, (bounded - ret) ^ 2))
minimize vf_coef * critic - token_mean(clipped(ratio, advantage, 0.2, 0.2))
metric critic_loss = critic
