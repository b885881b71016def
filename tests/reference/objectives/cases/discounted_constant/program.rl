extend nothing
param gamma = 0.9
keep token where mask
to_go = discounted(token_reward, gamma in rollout)
steps = discounted(step_reward, 0.5 in rollout)
inner = discounted(token_reward, 1 in turn)
loss  = mean((to_go + steps - 0.1 * inner) * logp)
minimize loss
