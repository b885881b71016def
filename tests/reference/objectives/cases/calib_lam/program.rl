param lam = 0.5
advantage = calib(group_norm(reward), step_correct, lam = lam)
