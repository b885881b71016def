# VAS: Variance-Aware Sampling.
# "MMR1: Enhancing Multimodal Reasoning with Variance-Aware Sampling and Open Resources", 2025,
# arXiv 2509.21268.
#
# Prompts whose rollouts disagree teach most, so half of a batch is drawn in proportion to the variance of
# their outcomes.
#
#     VPS_p    = w_learnability p (1 - p) + w_diversity diversity          p: share of right rollouts
#     v_p      = momentum v_p + (1 - momentum) VPS_p
#     P(draw)  = mixture v_p / sum v + (1 - mixture) / prompts             L as in grpo, beta 0.01
#
# Family: sampling.
# Confidence: exact from code.
# Choices: The code normalises VPS by the data set's smallest and largest and sums over it; a program sees
# one batch, so a weight is mixture v / mean_B v + 1 - mixture, the same mixture in expectation. It redraws
# its half every 4 steps with replacement; the sampler here draws every step without. The other metrics of
# the paper (distinct-3, 1 - self-BLEU-123, edit distance) come in as `diversity`.
# To train: `rollout/correct`; `group/diversity` where w_diversity is above 0.

extend grpo

## Weight of the KL penalty to the reference policy. Loss per nat; 0.01 (MMR1). At 0 no reference is
## needed.
param beta           = 0.01
## Share of the batch drawn in proportion to the score. No unit; 0.5 (MMR1).
param mixture        = 0.5 in [0, 1]
## How much of the old score stays. No unit; 0.0 (MMR1's configuration).
param momentum       = 0.0 in [0, 1]
## Weight of p (1 - p). No unit; 1.0 (MMR1's configuration).
param w_learnability = 1.0
## Weight of the diversity of the texts. No unit; 0.0 (MMR1's configuration).
param w_diversity    = 0.0

## How different the group's texts are, in [0, 1].
input diversity : real @ group = 0.0

## Promotion score of a prompt, as of its last batch.
state vps[prompt] : real @ group = 0.0
update vps = promotion

pass_rate = mean(correct per group)
score     = w_learnability * pass_rate * (1 - pass_rate) + w_diversity * diversity
promotion = momentum * vps + (1 - momentum) * score

## How likely the prompt is to be drawn, against others; 1 on average.
draw = if mean(promotion) > 0 then mixture * promotion / mean(promotion) + 1 - mixture else 1

sample weight = draw

## Mean promotion score of the batch's prompts.
metric promotion = mean(promotion)
