# Importance-sampled policy gradient.
# Tinker, loss "importance_sampling", with the cookbook's advantage.
#
# The unclipped ratio times the centred reward, added up over tokens.
#
#     L = sum_t -r_t (R_i - mean_G R)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: a sum, not a mean, so that the learning rate absorbs the number of tokens. Tinker's ppo, cispo and dro
# are the same sums over the token losses of bnpo, cispo_verl (bounds 0 and 4: clip_low 1, clip_high 3) and dro.

extend grpo

## Credit of a token, in the unit of the reward.
advantage = center(reward)
surrogate = ratio * advantage
loss      = sum(token_loss @ token)

## Share of the tokens whose gradient a clip takes away: there is no clip.
metric clip_fraction = 0
