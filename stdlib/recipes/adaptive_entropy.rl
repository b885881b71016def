# GRPO with adaptive entropy control.
# "Skywork Open Reasoner 1 Technical Report", 2025, arXiv 2505.22312; TRL, use_adaptive_entropy.
#
# The bonus's weight rises while the entropy is below its target and falls while it is above.
#
#     L = L_grpo - c' mean_B H          c' = c where the last step's entropy was <= target, else 0
#     c <- clip(c + delta, 0, 1) where mean_B H <= target, else clip(c - delta, 0, 1)
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: as in TRL the step's own entropy changes the weight of the next step only. The entropy before the
# first step counts as infinite, so that the first step has no bonus.

extend grpo

## Entropy to hold. Nats; 0.2 (TRL, entropy_target).
param entropy_target = 0.2 in [0, inf]
## How much the weight changes in a step. Loss per nat; 0.005 (TRL, entropy_coef_delta).
param entropy_coef_delta = 0.005 in [0, inf]
## Smallest weight. Loss per nat; 0.0 (TRL).
param entropy_coef_min = 0.0
## Largest weight. Loss per nat; 1.0 (TRL).
param entropy_coef_max = 1.0 in [0, inf]

## The bonus's weight. Loss per nat; starts at 0.
state entropy_coef = 0.0
## Mean entropy of the last step's tokens, in nats.
state last_entropy = inf

mean_entropy = mean(entropy)
step         = if mean_entropy <= entropy_target then entropy_coef_delta else -entropy_coef_delta
update entropy_coef = clip(entropy_coef + step, entropy_coef_min, entropy_coef_max)
update last_entropy = mean_entropy

applied = if last_entropy <= entropy_target then entropy_coef else 0
loss    = base.loss - applied * mean_entropy

## The weight that was used.
metric applied_coef = applied
