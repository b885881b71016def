# CHORD with importance-weighted SFT.
# "On-Policy RL Meets Off-Policy Experts: Harmonizing Supervised Fine-Tuning and Reinforcement Learning
# via Dynamic Weighting", 2025, arXiv 2508.11408.
#
# Expert tokens are weighed by the probability that the policy gives them, as if the expert were a policy
# that is certain of its words.
#
#     s_t = -sg[p_t] logp_t          p_t = exp(logp_t); L as in chord
#
# Family: off-policy.
# Confidence: exact from code.
# To train: a sampler that mixes expert traces in and records `rollout/is_expert`.

extend chord

sft_weight = detach(exp(logp))
