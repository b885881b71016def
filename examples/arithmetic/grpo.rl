# The base as it is published: one credit per rollout.
extend grpo
