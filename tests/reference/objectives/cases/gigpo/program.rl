# Group-in-group: an episode's advantage, and a step's among the turns of the group that met its state.
param gamma = 0.95
param step_weight = 1.0
input anchor : int @ turn
input invalid : bool @ turn
key state_of = (group, anchor)
ret          = discounted(step_reward, gamma in rollout) - 0.1 * real(invalid)
episode      = reward @ turn - 0.1 * real(invalid)
step_adv     = norm(ret per state_of)
advantage    = norm(episode) + step_weight * step_adv
loss         = token_mean(token_loss)
metric alone = mean(count(turn per state_of) == 1)
