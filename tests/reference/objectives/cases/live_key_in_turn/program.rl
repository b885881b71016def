extend nothing
keep token where mask
key part = (turn, logp < -0.8)
loss = mean(mean(mean(logp per part) per turn) * step_reward)
minimize loss
