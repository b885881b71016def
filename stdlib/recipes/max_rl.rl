# MaxRL: advantages by the success rate.
# PrimeIntellect-ai/prime-rl, algorithm "max_rl".
#
# The centred reward is divided by the group's mean, so that rare successes weigh most.
#
#     A_i = (R_i - mean_G R) / mean_G R          0 where the mean is 0
#
# Family: advantage.
# Confidence: exact from code.
# Choices: the loss is prime_rl's, without which only the advantage is defined. Where rewards are negative the
# formula holds; the code gives 0 to groups of a negative mean too.
# To train: the sampler's own log-probabilities, `token/sampler_logp`.

extend prime_rl

rate      = mean(reward per group)
## Credit of a token, in means of the group's rewards.
advantage = if rate == 0 then 0 else center(reward) / rate
