# No division by the std of the rewards, nor by a rollout's length.
extend dr_grpo
