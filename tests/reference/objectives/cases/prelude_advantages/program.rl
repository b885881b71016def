extend dapo
advantage = group_norm_pop(reward) + 0.1 * batch_norm(reward) + leave_one_out(reward) + group_norm_verl(reward)
            + 0.2 * norm(reward, eps = 0.1) + 0.3 * norm(step_reward per rollout)
