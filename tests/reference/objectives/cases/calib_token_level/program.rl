advantage = calib(batch_norm(reward @ token), step_correct, 1.5)
