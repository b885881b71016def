# The rollout as one action. No reference model here: the demo is too short to drift.
extend rloo

param beta = 0.0
