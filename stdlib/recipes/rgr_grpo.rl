# RGR-GRPO: Reward and Guidance through Rubrics.
# Baolong Bi et al., "Reward and Guidance through Rubrics: Promoting Exploration to Improve Multi-Domain
# Reasoning", 2025, arXiv 2511.12344.
#
# A rubric's weighted score is the reward; where even the best rollout fails a criterion, a refinement written
# from the failed ones joins the group, and its unlikely tokens are learnt faster.
#
#     R_i = sum_k weight_k score_ik / sum_k weight_k          A_i = (R_i - mean_G R) / (std_G R + eps)
#     l_t = -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)          of a rollout of the policy
#     l_t = -A_i p_t / (p_t + gamma), p_t = exp(logp_t)              of a refinement
#     L   = sum_t l_t / (number of tokens)
#
# Family: off-policy.
# Confidence: reconstructed.
# Choices: Known from the abstract: the normalised rubric reward, refinement of the best rollout by its failed
# criteria, and mixed-policy GRPO with shaping. Ours: the shaping is LUFFY's with gamma 0.1 and no clip, the
# refinement takes one rollout's place, clip 0.2, no KL, ddof = 1, eps 1e-6. A rollout without criteria has
# reward 0.
# To train: a judge (`criterion/score`, `criterion/weight`), and a sampler that lets the policy refine the best
# rollout of a `refinable` group and records which one that is (`rollout/is_off`); `logp` of its tokens is under
# the plain prompt.

extend bnpo

## The rubric's criteria, as judged for the rollout.
list criterion in rollout
## Weight of the criterion in its question's rubric.
input weight : real @ criterion
## Whether the rollout meets it.
input score : bool @ criterion
## Whether the rollout is a refinement, not sampled from the prompt.
input is_off : bool @ rollout = false

## At which probability the shaped refinement has half its weight. A probability; 0.1 (LUFFY).
param gamma = 0.1 in [0, 1]

full   = sum(weight per rollout)
reward = if full > 0 then sum(weight where score per rollout) / full else 0

advantage = norm(reward)
# p / (p + gamma), without leaving log space.
shaped    = sigmoid(logp - log(gamma))
surrogate = if is_off then shaped * advantage else clipped(ratio, advantage, clip_low, clip_high)

## Share of the tokens whose gradient the clip takes away.
metric clip_fraction = token_mean(not is_off and is_clipped(ratio, advantage, clip_low, clip_high))
## Share of the tokens that are of refinements.
metric off_policy    = token_mean(is_off)
## Share of the groups of which no rollout meets every criterion.
metric refinable     = mean(not any(all(score per rollout) per group))
