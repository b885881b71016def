# OTC-GRPO: Optimal Tool Call-controlled Policy Optimization, GRPO form.
# Hongru Wang et al., "Acting Less is Reasoning More! Teaching Model to Act Efficiently", 2025,
# arXiv 2504.14870.
#
# A correct rollout earns the more, the nearer its number of tool calls is to the fewest that ever solved the
# question.
#
#     n     = fewest calls of a correct rollout of the question, over all epochs
#     f     = 2 n m / (m + n)
#     rtool = 1 if m = n = 0;  cos(m pi / (2 m + c)) if n = 0;  sin(f pi / (2 n)) otherwise
#     R_i   = alpha rtool_i [correct]          A_i = (R_i - mean_G R) / (std_G R + eps)
#
# Family: reward.
# Confidence: secondary.
# Choices: c is not confirmed; 1, as in a third-party implementation (the largest number of turns is the other
# candidate). Clip 0.2, KL 0.001 and the token mean are Search-R1's. The fewest calls are kept per prompt as a
# state, so that the number can only fall. ddof = 1, eps 1e-6.
# To train: a sampler that counts tool calls (`rollout/m`).

extend bnpo

## Tool calls of the rollout.
input m : int @ rollout
## The fewest tool calls that have solved the question; infinite before it was solved.
state n[prompt] : real @ group = inf

## What a correct rollout with the fewest calls earns. Reward; 1 (the paper).
param alpha = 1.0 in [0, inf]
## Smoothing: how slowly calls are punished where none is needed. In calls; 1 (a third-party implementation).
param c = 1.0 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (Search-R1).
param beta = 0.001 in [0, inf]

fewest   = min(n, min(real(m) where correct per group, default = inf))
update n = fewest

mean_of = 2 * fewest * m / (m + fewest)
rtool   = if fewest == 0 then (if m == 0 then 1 else cos(m * pi / (2 * m + c)))
          else sin(mean_of * pi / (2 * fewest))
reward  = if correct then alpha * rtool else 0

advantage = norm(reward)

## Tool calls per rollout.
metric calls  = mean(real(m))
## What the correct rollouts' calls left of their reward.
metric thrift = mean(rtool where correct)
