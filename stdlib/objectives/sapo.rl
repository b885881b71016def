# SAPO: Soft Adaptive Policy Optimization.
# Qwen team, 2025, arXiv 2511.20347.
#
# A sigmoid gate takes the place of the clip: off-policy tokens fade out, and faster where the
# advantage is negative.
#
#     f_t = 4 / tau sigmoid(tau (r_t - 1))          tau = tau_pos where A > 0, else tau_neg
#     L   = mean_i mean_t -f_t A_i
#
# The gradient to logp is -4 s (1 - s) r A with s = sigmoid(tau (r - 1)): -A on-policy for any tau.
#
# Family: ratio and clip.
# Confidence: exact from code.
# Choices: GRPO's advantage (eps 1e-4, a single rollout 0), as in TRL. For verl's, where eps is 1e-6 and a single
# rollout keeps its reward, write `advantage = group_norm_verl(reward)`. As in both, the mean is over tokens, then
# rollouts; AReaL's is `loss = token_mean(token_loss)`.

extend grpo

## Temperature of the gate where the advantage is positive. No unit; 1.0 (the paper; TRL, verl).
param tau_pos = 1.0
## Temperature of the gate elsewhere; larger fades faster. No unit; 1.05 (the paper; TRL, verl).
param tau_neg = 1.05

tau       = if advantage > 0 then tau_pos else tau_neg
gate      = sigmoid(tau * (ratio - 1))
surrogate = 4 / tau * gate * advantage

## How much of the tokens' gradient the gate takes away: the soft counterpart of a clip fraction.
metric clip_fraction = token_mean(1 - 4 * gate * (1 - gate))
