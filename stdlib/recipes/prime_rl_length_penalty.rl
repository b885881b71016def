# prime-rl with its length penalty.
# PrimeIntellect-ai/prime-rl, length_penalty of type "linear".
#
# What a rollout writes, reads and how often it takes a turn costs a share of the group's success rate, so
# that brevity matters where the prompt is solved already.
#
#     P_i = mean_G R (w_out o_i / max_G o + w_in c_i / max_G c + w_turns k_i / max_G k)
#     A_i = (R_i - P_i) - mean_G (R - P)          L as in prime_rl
#
# Family: reward.
# Confidence: exact from code.
# Choices: o counts the tokens the policy wrote and k the turns (one without turns in the batch). c, the
# tokens it read, prompt included, is a column, since a batch holds completions only; without it that part
# is 0.
# To train: `rollout/input_tokens`, and the sampler's own log-probabilities, `token/sampler_logp`.

extend prime_rl

## Price of the written tokens. A share of the group's mean reward; 0.25 (prime-rl).
param output_weight = 0.25 in [0, inf]
## Price of the read tokens. A share of the group's mean reward; 0.1 (prime-rl).
param input_weight  = 0.1 in [0, inf]
## Price of the turns. A share of the group's mean reward; 0.1 (prime-rl).
param turns_weight  = 0.1 in [0, inf]

## Number of tokens that the policy read and did not write, the prompt's included.
input input_tokens : real @ rollout = 0.0

## How much of the group's largest x a rollout has.
fn share(x) = x / max(max(x per group), 1)
price     = output_weight * share(count(token per rollout)) + input_weight * share(input_tokens)
            + turns_weight * share(count(turn per rollout))
advantage = center(reward - mean(reward per group) * price)

## Mean price of a rollout, as a share of the group's mean reward.
metric price = mean(price)
