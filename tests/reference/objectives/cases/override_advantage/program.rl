advantage = center(reward)
