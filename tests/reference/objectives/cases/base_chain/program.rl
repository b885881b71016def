extend "shifted.rl"
advantage = 2 * base.advantage
# A definition in the place of a param.
clip_high = 0.1 + 0.1 * mean(reward)
