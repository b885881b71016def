# SRFT: Supervised Reinforcement Fine-Tuning.
# Yuqian Fu et al., "SRFT: A Single-Stage Method with Supervised and Reinforcement Fine-Tuning for
# Reasoning", 2025, arXiv 2506.19767.
#
# Demonstrations and the policy's own rollouts are learned from at once; the policy's entropy says how much
# each kind weighs.
#
#     L = w_sft NLL(demo) + L_off(demo) + w_rl NLL(self, R = 1) - NLL(self, R = 0)
#     w_sft = 0.5 exp(-H(demo))          w_rl = 0.5 exp(H(self))
#     L_off = -mean_t min(q_t A_i, clip(q_t, 1 - low, 1 + high) A_i)          q_t = exp(logp_t)
#
# Family: off-policy.
# Confidence: reconstructed.
# Choices: Read from quoted equations. H is the mean entropy of the part's tokens over the batch, without
# gradient (`joint_entropy = true`: of all tokens, one H for both weights); every part is a mean over its
# own tokens (an empty part is 0). The demonstrations' behaviour probability is 1, as in LUFFY. A is z_G
# over demonstrations and rollouts together, as verl has it.
# To train: a sampler that puts demonstrations into the groups and records `rollout/is_demo`; rewards 0
# and 1.

extend bnpo

## Weight of the demonstrations' likelihood at entropy 0. No unit; 0.5 (the paper).
param sft_scale = 0.5
## Weight of the right rollouts' likelihood at entropy 0. No unit; 0.5 (the paper).
param rl_scale  = 0.5
## Whether both weights read the entropy of all tokens instead of their own part's. false (ours).
param joint_entropy = false

## Whether the rollout is a demonstration.
input is_demo : bool @ rollout

right = not is_demo and reward == 1
wrong = not is_demo and reward == 0
w_sft = sft_scale * exp(-detach(mean(entropy where joint_entropy or is_demo)))
w_rl  = rl_scale * exp(detach(mean(entropy where joint_entropy or not is_demo)))

advantage = group_norm_verl(reward)
# Over the demonstrations' own probability, taken as 1.
ratio     = exp(logp)
sft_part  = w_sft * mean(-logp where is_demo)
off_part  = mean(token_loss where is_demo)
self_part = w_rl * mean(-logp where right) - mean(-logp where wrong)
loss      = sft_part + off_part + self_part

## Share of the demonstrations' tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where is_demo)
## Weight of the demonstrations' likelihood.
metric w_sft = w_sft
## Weight of the right rollouts' likelihood.
metric w_rl  = w_rl
