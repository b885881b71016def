# Pref-GRPO: GRPO on pairwise preferences.
# Yibin Wang et al., "Pref-GRPO: Pairwise Preference Reward-based GRPO for Stable Text-to-Image
# Reinforcement Learning", 2025, arXiv 2508.20751.
#
# A rollout's reward is the share of its group that it beats in the eyes of a preference model, so
# that tiny differences of a score are not blown up by the group's std.
#
#     R_i = round(wins_i / (G - 1), 3)        A_i = clip(z(R_i) w_pref + z(clip_i) w_clip, -5, 5)
#     z   = (x - mean_G x) / (std_G x + 1e-8)
#     L   = mean_i mean_{drawn steps} -min(r A_i, clip(r, 1 - c, 1 + c) A_i)
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: A token is a denoising step. An unparsable verdict counts half a win for either side. The
# CLIP score is off by default; the paper's mixture with it is w_pref = 0.7, w_clip = 1.4.
# To train: `rollout/win_rate` from judging all pairs of a group; `token/step_mask`: a random 60 %
# of the steps of each rollout, floor(0.6 (T - 1)) of them; `rollout/clip_score` where w_clip > 0.

extend grpo

## How far the ratio may fall below 1. No unit; 1e-4 (the code).
param clip_low  = 1e-4 in [0, 1]
## How far the ratio may rise above 1. No unit; 1e-4 (the code).
param clip_high = 1e-4 in [0, inf]
## Largest size of an advantage. In standard deviations; 5 (the code).
param max_advantage = 5.0 in [0, inf]
## Weight of the preferences' advantage. No unit; 1, with a CLIP score 0.7 (the code).
param w_pref = 1.0 in [0, inf]
## Weight of the CLIP score's advantage. No unit; 0, or 1.4 (the code).
param w_clip = 0.0 in [0, inf]

## Wins over the number of opponents, wins_i / (G - 1), in [0, 1].
input win_rate : real @ rollout
## CLIP score of the image.
input clip_score : real @ rollout
## Whether the denoising step was drawn for training.
input step_mask : bool @ token

loss_mask = base.loss_mask and step_mask
## The win rate to three decimals.
preference = round(win_rate * 1000) / 1000
fn weighted(w, x) = if w == 0 then 0 else w * norm(x, eps = 1e-8)
## Credit of a rollout, in standard deviations of the group.
combined  = weighted(w_pref, preference) + weighted(w_clip, clip_score)
advantage = clip(combined, -max_advantage, max_advantage)

## Largest win rate of a group, on average.
metric best_win_rate = mean(max(win_rate per group))
