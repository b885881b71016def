# Dr. GRPO: GRPO Done Right.
# Zichen Liu et al., "Understanding R1-Zero-Like Training: A Critical Perspective", 2025,
# arXiv 2503.20783.
#
# Neither the std of the rewards nor the length of the rollout divides, so that neither easy prompts
# nor long wrong answers are favoured.
#
#     A_i = R_i - mean_G R          L = sum_t l_t / (rollouts * max_tokens)          l_t as in grpo
#
# Family: baseline.
# Confidence: exact from code.

extend grpo

## The constant that stands for the length of a rollout: the longest completion the sampler allows.
## In tokens; 512 (TRL, max_completion_length).
param max_tokens = 512

## Credit of a token, in the unit of the reward.
advantage = center(reward)
loss      = seq_sum(token_loss) / max_tokens
