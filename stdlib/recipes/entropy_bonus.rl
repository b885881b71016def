# GRPO with an entropy bonus.
# TRL, GRPOTrainer with entropy_coef; verl, entropy_coeff.
#
# The policy is paid for staying uncertain.
#
#     L = L_grpo - c mean_B H          the mean over the tokens of the batch
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: the bonus is a mean over tokens whatever the loss's own aggregation, as in TRL; verl aggregates it
# as the policy loss. Both have it off by default; 0.01 here.

extend grpo

## Weight c of the entropy. Loss per nat; 0.01 (TRL, entropy_coef, and verl: 0).
param entropy_coef = 0.01 in [0, inf]

loss = base.loss - entropy_coef * token_mean(entropy)

## Mean entropy of the tokens, in nats.
metric mean_entropy = token_mean(entropy)
