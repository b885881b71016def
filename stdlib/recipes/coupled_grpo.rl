# Coupled-GRPO: GRPO for masked diffusion language models.
# Shansan Gong et al., "DiffuCoder: Understanding and Improving Masked Diffusion Models for Code
# Generation", 2025, arXiv 2506.20639.
#
# Each token's log-probability is estimated from two complementary masks of the completion, so that
# every token is scored in one of them, and from the completion masked whole.
#
#     logp_t = 1/2 ( lp0_t + [t in M] lpM_t / tau + [t not in M] lpC_t / (1 - tau) )
#     A_i    = R_i - mean_{j != i} R_j
#     L     = sum_t [ beta k3_t - min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i) ] / (batch tokens)
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: The old and the reference policy are scored under the same mask and the same tau, so
# their columns are copies of the three: old_lp0, old_lpM, old_lpC, and ref_ likewise. A rollout
# alone in its group keeps its reward (RLOO). The estimate is no normalised log-probability: do not
# read probabilities or entropies from it.
# To train: three forward passes per policy (everything masked, M masked, its complement masked)
# that record `token/lp0`, `token/lpM`, `token/lpC`; a mask redrawn for each inner iteration
# (`token/M`, `batch/tau` from U(0.2, 0.8)); reference weights mixed with the policy every 64 steps;
# reward 2 * tests passed + 0.5 * format.

extend bnpo

## How far the ratio may fall below 1. No unit; 0.5 (the code).
param clip_low  = 0.5 in [0, 1]
## How far the ratio may rise above 1. No unit; 0.5 (the code).
param clip_high = 0.5 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0.01 (the code).
param beta      = 0.01 in [0, inf]
## Whether advantages are divided by the group's std + 1e-4. Off (the code).
param scale_by_std = false

## Log-probability of the token with the whole completion masked, in nats.
policy lp0 : real @ token
## The same with only the tokens of M masked; read there.
policy lpM : real @ token
## The same with only the tokens outside M masked; read there.
policy lpC : real @ token
## lp0 under the policy that sampled.
input old_lp0 : real @ token
## lpM under the policy that sampled, with the same mask.
input old_lpM : real @ token
## lpC under the policy that sampled, with the same mask.
input old_lpC : real @ token
## lp0 under the reference policy.
input ref_lp0 : real @ token
## lpM under the reference policy, with the same mask.
input ref_lpM : real @ token
## lpC under the reference policy, with the same mask.
input ref_lpC : real @ token
## Whether the token is in the drawn mask M.
input M : bool @ token
## Share of the tokens that M was drawn with, in (0, 1).
input tau : real @ batch

## The estimate from the whole mask and the two halves.
fn coupled(all, chosen, rest) = (all + (if M then chosen / tau else rest / (1 - tau))) / 2

logp     = coupled(lp0, lpM, lpC)
old_logp = coupled(old_lp0, old_lpM, old_lpC)
ref_logp = coupled(ref_lp0, ref_lpM, ref_lpC)

spread = std(reward per group) + 1e-4
## Credit of a rollout, in the unit of the reward.
advantage = if scale_by_std then leave_one_out(reward) / spread else leave_one_out(reward)

## Share of the tokens in M.
metric masked_share = token_mean(M)
