# SofT-GRPO: GRPO for soft thinking with Gumbel noise.
# Zhi Zheng et al., "SofT-GRPO: Surpassing Discrete-Token LLM Reinforcement Learning via
# Gumbel-Reparameterized Soft-Thinking Policy Optimization", 2025, arXiv 2511.06411.
#
# A thinking step mixes its K likeliest tokens with weights drawn by Gumbel noise; the density of
# the noise that was drawn takes the place of a token's probability.
#
#     q_k    = softmax(z / T)_k renormalised over the K candidates
#     u_k = clip(g_k - log q_k, -1.5, 3)
#     logp_t = mean_k (-u_k - exp(-u_k)) over candidates with log q_k > -3; other tokens as usual
#     L      = token mean of -dual clip(r_t, A_i; 0.8, 1.2, 3) + beta k3_t
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: `old_logp` and `ref_logp` hold the same function of the stored noise under the old and
# the reference weights, not a token's log-probability. Which candidates count depends on the policy
# but carries no gradient. As in verl: a rollout alone in its group keeps its reward, the log-ratio
# of the KL is clamped to [-20, 20] and its value to [-10, 10]. 1e-6 is added to q before the
# logarithm.
# To train: a sampler that keeps the candidates of each soft step (`candidate/size`, ids, g = log p
# + noise, the noise clamped to [-1.5, 3]) and feeds the mixture's embedding back.

extend bnpo

## Weight of the KL penalty to the reference policy. Loss per nat; 0.002 (the code).
param beta = 0.002 in [0, inf]
## Largest ratio, in multiples, that a negative advantage is multiplied by. A ratio; 3 (verl).
param clip_ratio_c = 3.0 in [1, inf]

## The likeliest tokens of a soft step, after top-p, in the step's distribution.
level candidate in token
## Token id of a candidate.
input topk_ids : int @ candidate
## Stored noisy log-probability of a candidate: log(p + 1e-6) plus its Gumbel noise, in nats.
input g : real @ candidate
## Whether the step is a soft one; elsewhere the sampled token counts.
input is_soft : bool @ token

chosen_logits = at(logits / temperature, topk_ids)
## Log of a candidate's share among the candidates.
log_q = log(exp(chosen_logits - logsumexp(chosen_logits per token)) + 1e-6)
## The noise that would lead from this policy to what was stored.
noise = clip(g - log_q, -1.5, 3)
logp  = if is_soft then mean(-noise - exp(-noise) where log_q > -3 per token) else base.logp

## Credit of a rollout, in standard deviations of the group's rewards.
advantage = group_norm_verl(reward)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)
penalty   = if beta == 0 then 0
            else beta * clip(kl_k3(0, clip(ref_logp - logp, -20, 20)), -10, 10)

## Share of the tokens that are soft steps.
metric soft_share = token_mean(is_soft)
