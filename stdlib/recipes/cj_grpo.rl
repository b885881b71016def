# CJ-GRPO: Consistency Trajectory GRPO for masked diffusion language models.
# Jingyi Yang et al., "Taming Masked Diffusion Language Models via Consistency Trajectory Reinforcement
# Learning with Fewer Decoding Step", 2025, arXiv 2509.23924.
#
# Every token is scored in the half-denoised text it was un-masked in, so that training follows the
# rollout's own trajectory; denoising steps weigh alike, however many tokens they un-mask.
#
#     A_i = R_i - mean_G R          U_s: the batch's tokens un-masked at step s
#     L   = (1 / S) sum_s sum_{t in U_s} l_t / |U_s|          l_t as in grpo
#
# Family: diffusion.
# Confidence: exact from code.
# Choices: S counts the steps that have a kept token. The clip and `beta` keep grpo's defaults.
# To train: a masked-diffusion sampler that records `token/step_id` and each token's log-prob given that
# step's text. ASS (step s un-masks 2^s tokens, the last the rest) and EOSER (the end token's confidence
# is scaled from 0.01, or 0.4 in the plain variant, up to 1 over the steps) belong to that sampler.

extend grpo

## Denoising step in which the token was un-masked.
input step_id : int @ token

key denoising = (step_id)

advantage = center(reward)
loss      = mean(mean(token_loss per denoising))

## Number of denoising steps with a kept token.
metric denoising_steps = count(denoising)
