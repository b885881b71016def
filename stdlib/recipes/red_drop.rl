# RED-Drop: Group-Relative REINFORCE on balanced data.
# Chaorui Yao et al., "Group-Relative REINFORCE Is Secretly an Off-Policy Algorithm: Demystifying Some
# Myths About GRPO and Its Friends", 2025, arXiv 2509.24203.
#
# Where a group has more rollouts below its mean than above, a random part of the surplus is left out.
#
#     pos_i = R_i >= mean_G R          drop a random (#neg - #pos) of the negatives where #neg > #pos
#     A_i   = R_i - mean_kept R  (0 where dropped)
#     L     = sum_t -A_i logp_t / (number of tokens in the batch)
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: A dropped rollout keeps its tokens in the denominator, as in the code, where only its advantage
# is 0. Which negatives go follows from the batch's seed. `std_normalize` divides by the kept rollouts'
# population std. A group of one has A = 0 (the code fails there).

extend rec

positive = reward >= mean(reward per group)
surplus  = count(not positive per group) - count(positive per group)
# Negatives draw numbers below 1, so that they come first in the order.
ticket   = if positive then 1.0 else uniform(rollout)
kept     = positive or rank(ticket in group) >= surplus

above     = reward - mean(reward where kept per group)
scale     = if std_normalize then std(reward, ddof = 0 where kept per group) + 1e-6 else 1
advantage = if kept then above / scale else 0

## Share of the rollouts that are dropped.
metric drop_fraction = mean(not kept)
