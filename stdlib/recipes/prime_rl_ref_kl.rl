# On-policy distillation as in prime-rl.
# PrimeIntellect-ai/prime-rl, loss component "ref_kl".
#
# The teacher's log-ratio of a token is its advantage: the reverse KL, one sampled token at a time.
#
#     A_t    = sg[ref_logp_t - logp_t]          keep_t = p_t - q_t >= -low
#     L      = sum_t (-A_t r_t keep_t + tau d_t^2) / (number of tokens in the batch)          as in prime_rl
#
# Family: supervised.
# Confidence: exact from code.
# Choices: verl's distillation losses k1 to k3 are the estimators themselves: `token_loss = kl_k2(logp,
# ref_logp)` in a file that extends sft.
# To train: a teacher as the reference policy (`token/ref_logp`), and `token/sampler_logp`.

extend prime_rl

## What the teacher gives the token more than the policy, in nats.
advantage = detach(ref_logp - logp)
kept      = moved >= -clip_low

## Mean log-ratio of the policy to the teacher, in nats: the reverse KL.
metric reverse_kl = token_mean(-advantage)
