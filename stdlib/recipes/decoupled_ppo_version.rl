# Decoupled PPO with an interpolated proximal policy.
# inclusionAI/AReaL, proximal log-probabilities by policy version.
#
# The proximal policy's log-probabilities are not computed but read off a line from the sampler's to the
# current policy's, by how old the token is.
#
#     prox_t  = sg[sampler_logp_t + alpha_t (logp_t - sampler_logp_t)]
#     alpha_t = (v_prox - version_t) / (v_theta - version_t)          0 where the two are equal
#     L       as in decoupled_ppo
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: v_prox is v_theta - 1, the policy before the present update; alpha is kept within [0, 1].
# To train: `token/version`, the number of the policy that drew the token, `batch/policy_version`, that of the
# current one, and `token/sampler_logp`.

extend decoupled_ppo

## Number of the policy that drew the token.
input version : int @ token
## Number of the current policy.
input policy_version : int @ batch

age    = policy_version - version
share  = if age == 0 then 0 else clip((age - 1) / age, 0, 1)
## Log-probability under the proximal policy, interpolated, in nats.
anchor = detach(sampler_logp + share * (logp - sampler_logp))
