# Reg-GRPO: regressive GRPO.
# Jinyoung Park et al., "DeepVideo-R1: Video Reinforcement Fine-Tuning via Difficulty-aware
# Regressive GRPO", 2025, arXiv 2506.07464.
#
# The policy's log-ratios are regressed onto the advantages: no clip, no minimum.
#
#     z_i  = sum_t (logp_t - old_logp_t)        Ahat_i = (z_i - mean_G z) / (std_G z + eps)
#     L    = mean_i (A_i - Ahat_i)^2 + beta mean_i mean_t k3_t
#
# Family: advantage.
# Confidence: secondary.
# Choices: From notes that quote the loss. They print -beta KL inside a minimised expectation; the
# sign is taken as +, a negative beta is theirs. Whether mean and std of z carry gradient is not
# said: here the mean does and the std does not (detach_std = false lets it). The std of z divides
# by n. On the first step every z and its std are 0, so the gradient is of the size of 1 / eps.
# Groups of equal rewards stay in: their z are pulled together. eps and beta were not found.
# To train: the usual columns suffice; difficulty-aware augmentation of prompts is the sampler's.

extend nothing

## Weight of the KL to the reference policy. Loss per nat; 0.04 (a guess; GRPO's paper).
param beta = 0.04
## Added to the std of the group's log-ratios. Nats; 1e-4 (our choice).
param eps = 1e-4 in [1e-12, inf]
## Whether that std is a constant. On (our choice).
param detach_std = true

## The tokens that are trained on and counted: those the policy wrote.
loss_mask = mask
keep token where loss_mask

## Credit of a rollout, in standard deviations of the group's rewards.
advantage = group_norm(reward)
## The rollout's log-ratio, in nats.
log_ratio = sum(logp - old_logp per rollout)
spread    = std(log_ratio, ddof = 0 per group)
## The advantage that the policy's move implies.
predicted = center(log_ratio) / ((if detach_std then detach(spread) else spread) + eps)
penalty   = if beta == 0 then 0 else beta * kl_k3(logp, ref_logp)
loss      = mean((advantage - predicted) ^ 2) + seq_mean(penalty)

minimize loss

## KL(sampling policy || current policy) per token, estimated by k1, in nats.
metric approx_kl = token_mean(old_logp - logp)
## Share of the advantages' variance that the log-ratios explain.
metric explained = 1 - mean((advantage - predicted) ^ 2) / max(mean(advantage ^ 2), 1e-8)
