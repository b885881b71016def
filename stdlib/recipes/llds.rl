# LLDS: likelihood-preserving regularisation against lazy likelihood displacement.
# Wenlong Deng et al., "On Group Relative Policy Optimization Collapse in Agent Search: The Lazy
# Likelihood-Displacement", 2025, arXiv 2512.04220; code in
# vengdeng/LLDS-On-Group-Relative-Policy-Optimization-Collapse-in-Search-R1.
#
# Rollouts that were not bad must not become less likely: where an action of one as a whole did, its
# tokens that fell pay for it.
#
#     delta_t = old_logp_t - logp_t          keep: policy tokens with A_i >= 0
#     pen_t   = lambda max(0, delta_t)       in runs of kept tokens whose sum of delta is above 0
#     L       = sum_t [ -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) + beta k3_t
#                       - entropy_coef H_t + pen_t ] / (number of tokens)
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: Rollouts with an advantage of exactly 0 are kept, as in the code. The gate is the code's default
# ("action"); `response_gate` is its other. The mean is over all policy tokens, not over the kept ones. For the
# code's other base, GSPO, `ratio = exp(mean(logp - old_logp per rollout))` in your own file. CalibAdv's account
# of this method is `llds_calibadv`.
# To train: several updates per batch of rollouts, as nothing has moved in the first. The answer's own weight
# needs `token/answer`, its adaptive form `rollout/searches`.

extend bnpo

## Price of a nat that a kept token lost. Loss per nat; 0.2 (the code).
param lambda = 0.2 in [0, inf]
## The largest price inside the answer. Loss per nat; 0.2 (the code, where the answer mask is off).
param lambda_ans = 0.2 in [0, inf]
## Whether lambda_ans is scaled by the batch's mean number of searches beyond the first. A switch; false
## (the code).
param adaptive = false
## Whether a rollout is gated as a whole, not action by action. A switch; false (the code).
param response_gate = false
## Weight of the entropy bonus. Loss per nat; 0.001 (the code's default).
param entropy_coef = 0.001 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0.001 (the code).
param beta = 0.001 in [0, inf]

## Tokens of the final answer, where `lambda_ans` bounds the price.
input answer : bool @ token = false
## How often the rollout searched.
input searches : int @ rollout

advantage = group_norm_verl(reward)

## Tokens that the penalty is for.
kept = loss_mask and advantage >= 0
# Maximal runs of them: an action of the agent, between two observations.
key span = runs(kept in rollout)
## By how much the token became less likely, in nats.
delta = old_logp - logp
gate  = if response_gate then sum(delta where kept per rollout) > 0 else sum(delta per span) > 0

bound = if adaptive then lambda_ans * max(mean(searches) - 1, 0) else lambda_ans
price = if answer then min(bound, lambda) else lambda
## What a token pays for having become less likely.
lld   = if gate and kept then price * relu(delta) else 0
bonus = if entropy_coef == 0 then 0 else entropy_coef * entropy

token_loss = base.token_loss + lld - bonus

## What the penalty adds to the loss.
metric lld  = token_mean(lld)
## Share of the kept tokens that pay.
metric paid = mean(lld > 0 where kept)
