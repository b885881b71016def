# REINFORCE++ with a discount.
# Jian Hu et al., "REINFORCE++: A Simple and Efficient Approach for Aligning Large Language Models",
# 2025, arXiv 2501.03262; verl, adv_estimator "reinforce_plus_plus".
#
# Tokens far from the end get a smaller share of the reward.
#
#     G_t = [t last] R_i + gamma G_{t+1}          A_t and L as in reinforce_pp
#
# Family: advantage.
# Confidence: exact from code.
# Choices: the last kept token has the reward and masked tokens do not discount, as in verl. verl's gamma is 1 by
# default, which is reinforce_pp; 0.99 here. With `per_token = true` rewards are those of `token/token_reward`.

extend reinforce_pp

## Discount per token. No unit; 0.99 (verl: 1.0).
param gamma = 0.99 in [0, 1]
## Whether rewards come per token, from `token_reward`. Off.
param per_token = false

paid = if per_token then token_reward else if is_last(token in rollout) then reward else 0
ret  = discounted(paid, gamma in rollout)
