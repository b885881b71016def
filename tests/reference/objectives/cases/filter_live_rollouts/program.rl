keep rollout where mean(logp - old_logp per rollout) < 0.1
