# RLOO: REINFORCE Leave-One-Out.
# Arash Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from
# Human Feedback in LLMs", 2024, arXiv 2402.14740.
#
# The rollout is one action, and its baseline is the mean reward of the other rollouts of the prompt.
#
#     A_i = R'_i - mean_{j != i} R'_j          R'_i = R_i - beta sum_t (old_logp_t - ref_logp_t)
#     r_i = exp(sum_t (logp_t - old_logp_t))   L = mean_i -min(r_i A_i, clip(r_i, 1 - low, 1 + high) A_i)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: As in TRL: the KL is in the reward, so it carries no gradient of its own. `normalize = true` is its
# normalize_advantages: (A - mean_B A) / (std_B A + 1e-4) over the rollouts of the batch.

extend gspo

# The rollout is one action: its ratio is the product of its tokens' ratios, whatever its length.
allow unnormalised_ratio

## How far the rollout's ratio may fall below 1. No unit; 0.2 (TRL, epsilon).
param clip_low  = 0.2
## How far the rollout's ratio may rise above 1. No unit; 0.2 (TRL, epsilon).
param clip_high = 0.2
## Price of the KL to the reference policy. Reward per nat; 0.05 (TRL). At 0 no reference is needed.
param beta      = 0.05
## Whether the advantage is centred and scaled over the batch. Off (TRL, normalize_advantages).
param normalize = false

## The reward less the rollout's KL to the reference policy, in the unit of the reward.
net_reward = if beta == 0 then reward
             else reward - beta * sum(kl_k1(old_logp, ref_logp) per rollout)
## Credit of a rollout, in the unit of the reward (normalised: in standard deviations of the batch's).
advantage =
  a = leave_one_out(net_reward)
  if normalize then (a - mean(a)) / (std(a) + 1e-4) else a
## The rollout's ratio: the product of its tokens' ratios.
ratio   = exp(sum(logp - old_logp per rollout))
penalty = 0
