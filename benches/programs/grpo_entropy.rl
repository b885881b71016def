# GRPO with an entropy bonus, a mean over the tokens that count, as TRL has it.

extend grpo

## Weight of the entropy bonus. Loss per nat.
param entropy_weight = 0.01

loss = base.loss - entropy_weight * token_mean(entropy)
