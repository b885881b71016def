# LUFFY: Learning to reason Under oFF-policY guidance.
# Jianhao Yan et al., "Learning to Reason under Off-Policy Guidance", 2025, arXiv 2504.14945.
#
# Traces of a stronger model join the group. Their probability under the policy is shaped so that tokens
# the policy finds unlikely still teach.
#
#     on-policy:   l_t = -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)
#     off-policy:  l_t = -A_i f(q_t)          q_t = exp(logp_t), f(q) = q / (q + gamma)
#     L = sum_t l_t / (number of tokens in the batch)          A_i = z_G(R), both kinds together
#
# Family: off-policy.
# Confidence: exact from code.
# Choices: Read in a port to verl, so the group norm is verl's. The expert's probability is taken as 1;
# with `use_target_prob = true` q is exp(logp) / (target_prob + 1e-6), which that port leaves unshaped
# (`reshape = false`). Other shapes there are one line: `shaped = logp`,
# `shaped = sqrt(off_ratio)`, `gamma` 0.3 or 0.5. The Dr. GRPO variant is `advantage = center(reward)` with
# your own denominator.
# To train: a sampler that puts expert traces into the groups and records `token/prefix_mask`.

extend bnpo

## Where f has half its height: smaller favours unlikely tokens. A probability; 0.1 (the paper).
param gamma           = 0.1
## Whether f is applied; false leaves q. true (the paper).
param reshape         = true
## The largest f(q). No unit; inf, which is off.
param f_max           = inf
## The smallest f(q). No unit; 0, which is off.
param f_min           = 0.0
## Whether the ratio of on-policy tokens is clipped. true.
param clip_on_policy  = true
## Whether the batch gives the expert's probabilities. false (the paper takes 1).
param use_target_prob = false

## Whether the token comes from an expert's trace.
input prefix_mask : bool @ token
## Probability of the token under the expert; read where use_target_prob is true.
input target_prob : real @ token

advantage = group_norm_verl(reward)
## Probability of an expert's token under the policy, over the expert's own.
off_ratio = if use_target_prob then exp(logp) / (target_prob + 1e-6) else exp(logp)
shaped    = clip(if reshape then off_ratio / (off_ratio + gamma) else off_ratio, f_min, f_max)
surrogate = if prefix_mask then shaped * advantage
            else if clip_on_policy then base.surrogate
            else ratio * advantage

## Share of the on-policy tokens whose gradient the clip takes away.
metric clip_fraction =
  mean(clip_on_policy and is_clipped(ratio, advantage, clip_low, clip_high) where not prefix_mask)
## Mean probability of the expert's tokens under the policy.
metric off_policy_prob = mean(exp(logp) where prefix_mask)
