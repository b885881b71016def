# GRPO as in verl.
# verl, adv_estimator "grpo" with the policy loss "vanilla".
#
# A group of one keeps its reward, the ratio's logarithm is bounded, a negative advantage pushes at most
# three times, and every token weighs the same.
#
#     A_i = (R_i - mean_G R) / (std_G R + 1e-6)          r_t = exp(clip(logp_t - old_logp_t, -20, 20))
#     s_t = min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)          where A_i < 0: max(s_t, c A_i)
#     L   = sum_t [ beta k3_t - s_t ] / (number of tokens in the batch)
#
# Family: baseline.
# Confidence: exact from code.
# Choices: verl's k3 (low_var_kl) is clamped twice, as here; its loss has no KL by default, and 0.001 where
# use_kl_loss is set.

extend bnpo

## The largest push of a negative advantage. A ratio, no unit; 3.0 (verl, clip_ratio_c).
param clip_ratio_c = 3.0 in [1, inf]

advantage = group_norm_verl(reward)
ratio     = exp(clip(logp - old_logp, -20, 20))
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)
penalty   = if beta == 0 then 0 else beta * low_var_kl(logp, ref_logp)

## k3 with the log-ratio within 20 and the value within 10, in nats (verl, kl_penalty).
fn low_var_kl(logp, ref) =
  gap = clip(ref - logp, -20, 20)
  clip(expm1(gap) - gap, -10, 10)

## Share of the tokens whose gradient the second clip takes away.
metric dual_clip_fraction = token_mean(advantage < 0 and ratio > clip_ratio_c)
