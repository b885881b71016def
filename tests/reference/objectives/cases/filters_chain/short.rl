# Sees the tokens that grpo's mask left.
drop rollout where mean(old_logp per rollout) < -1.2
