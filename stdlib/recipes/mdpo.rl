# MDPO: Masked Diffusion Policy Optimization.
# Haoyu He et al., "MDPO: Overcoming the Training-Inference Divide of Masked Diffusion Language
# Models", 2025, arXiv 2508.13148.
#
# Every denoising step's full guess is rewarded, and the steps whose rewards differ most are
# trained.
#
#     a_s  = (r_s - r_{s-1}) + 1 + f_s
#     f_s = mean_{u > s} r_u, of the last step r_s; r_{-1} = 0
#     A_is = (a_is - mean) / (std + 1e-4)     over the rollouts of the group at step s
#     train the K steps of the group with the largest sum_i |A_is|
#     x_t  = max_tokens / (masked_is + 1e-4) PC(r_t, A_is) + beta k2_t
#     L    = mean over trained steps of sum_it c_t x_t / (sum_i masked_is + 1e-4)
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: A step is trained on the tokens that are masked in its input; its tokens are the whole
# completion. Which rollouts share a score and a denominator depends on the devices in the code:
# here those of one group at one step; per_rollout = true is the code with one rollout per device.
# Trained steps weigh alike.
# To train: a masked-diffusion sampler that records its steps (`dstep/size`), each step's reward,
# the masked bits and the confidence of what it chose.

extend grpo

## Temperature of the scored distribution. No unit; 0.1 (the code).
param temperature = 0.1 in [1e-3, inf]
## Number of steps of a group that are trained (K). Denoising steps; 16 (the code).
param steps = 16 in [1, inf]
## Length that a step's loss is scaled to (Lmax). Tokens; 512 (the code).
param max_tokens = 512 in [1, inf]
## Whether each rollout chooses its own steps. Off (our choice; the code has both).
param per_rollout = false

## A denoising step of a rollout: all tokens of the completion, as they were guessed there.
level dstep in rollout
## Reward of the step's guess.
input r_s : real @ dstep
## Whether the token was masked in the step's input.
input masked : bool @ token
## Probability that the sampler had for the token it chose.
input confidence : real @ token

loss_mask = base.loss_mask and masked

place = index(dstep in rollout)
later = count(dstep per rollout) - 1 - place
after = rcumsum(r_s in rollout) - r_s
## What a step is worth: its gain, and the mean of what follows.
raw   = r_s - prev(r_s, 0 in rollout) + 1 + (if later > 0 then after / max(later, 1) else r_s)

key cell = (group, place)
## Credit of a step, in standard deviations of the group's rollouts at that step.
advantage = norm(raw, eps = 1e-4 per cell)
contrast  = sum(abs(advantage) per cell)
group_top = top(contrast, steps in group)
own_top   = top(abs(advantage), steps in rollout)

## Tokens that a step has to fill in, per rollout and over the group.
open      = count(token per dstep)
surrogate = max_tokens / (open + 1e-4) * clipped(ratio, advantage, clip_low, clip_high)
penalty   = if beta == 0 then 0 else beta * kl_k2(logp, ref_logp)
weighted  = confidence * token_loss
own_loss   = sum(weighted per dstep) / (open + 1e-4)
group_loss = sum(weighted per cell) / (sum(open per cell) + 1e-4)
loss = if per_rollout then mean(own_loss where own_top) else mean(group_loss where group_top)

## Mean gain of reward per step.
metric step_gain = mean(r_s - prev(r_s, 0 in rollout))
