advantage = calib(group_norm(reward), step_correct)
