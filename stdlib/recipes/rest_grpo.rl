# ReST-GRPO: optimised self-training for GRPO.
# Sining Zhoubian et al., "ReST-RL: Achieving Accurate Code Reasoning of LLMs with Optimized
# Self-Training and Decoding", 2025, arXiv 2508.19576.
#
# Prompts on which sampled completions disagree are kept, and the best completions' beginnings
# become prompts of their own; the loss is plain GRPO.
#
#     A_i = (R_i - mean_G R) / (std_G R + 1e-4)
#     L   = sum_t [ beta k3_t - min(r_t A_i, clip(r_t, 0.8, 1.2) A_i) ] / (tokens in the batch)
#     a prompt is drawn again only where std_G R (dividing by n) is at least min_std
#
# Family: sampling.
# Confidence: exact from code.
# Choices: The code selects prompts once, from completions sampled before training; `sample weight`
# says the same of every batch, 0 for a prompt whose rollouts agree, and leaves the loss alone.
# To train: partial solutions as prompts: where a completion has a reward of 0.9 or more, ceil(0.5
# lines) of its line prefixes, drawn with weights 0.95 ^ line. Reward: the verifier's, plus 0.001
# where the stop symbol appears, less 1e-6 for each character after it.

extend bnpo

## Weight of the KL penalty to the reference policy. Loss per nat; 0.04 (TRL 0.18.2, which the code
## uses).
param beta = 0.04 in [0, inf]
## Least spread of a prompt's rewards (std, dividing by n) to be drawn again. Reward; 0.05 (the
## code).
param min_std = 0.05 in [0, inf]

## Std of the group's rewards, dividing by n.
disagreement = std(reward, ddof = 0 per group)
## How likely the prompt is to be drawn again.
prompt_weight = if disagreement >= min_std then 1.0 else 0.0
sample weight = prompt_weight

## Share of the groups whose prompt is worth drawing again.
metric kept_prompts = mean(disagreement >= min_std)
