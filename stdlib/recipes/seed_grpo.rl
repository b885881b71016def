# SEED-GRPO: Semantic Entropy Enhanced GRPO.
# Minghan Chen et al., "SEED-GRPO: Semantic Entropy Enhanced GRPO for Uncertainty-Aware Policy
# Optimization", 2025, arXiv 2505.12346.
#
# Prompts whose answers mean many different things are learned from more carefully: the advantage
# shrinks with the semantic entropy of the group.
#
#     q_i = exp(mean_t old_logp_t)         P_k = sum_{i in cluster k} q_i / sum_{i in G} q_i
#     SE  = -(1 / K) sum_k log P_k         A_i = (R_i - mean_G R) f(alpha min(SE / log |G|, 1))
#     f(x) = 1 - x                         L as in dr_grpo
#
# Family: advantage.
# Confidence: secondary.
# Choices: P_k is normalised inside the group. The mean over clusters does not weigh them by P_k, so SE
# can exceed log |G|; SE / log |G| is clamped to [0, 1]. A group of one has SE 0. The other published
# shapes are one line in your file: `fn shape(x) = exp(-x)` or `fn shape(x) = (1 - x) ^ 2` ("focal"). The
# notes print alpha as 0.0417; 0.02 ln 8 is 0.04159, and that is the default.
# To train: a reward or sampler that records `rollout/cluster`, one number per meaning of the final
# answer (the same answer, the same number).

extend dr_grpo

## How much the semantic entropy takes away: the share of the advantage lost at the largest entropy.
## No unit; 0.0416 = 0.02 ln 8 (the paper's rule for groups of 8).
param alpha            = 0.041588830833596716
## Whether a rollout's probability is the geometric mean of its tokens' (true, the default) or the
## product.
param length_normalise = true

## Number of the meaning of the rollout's answer; only equality inside a group counts.
input cluster : int @ rollout

key meaning = (group, cluster)

## Log-probability of a rollout when it was sampled, in nats (per token where length-normalised).
log_q = if length_normalise then mean(old_logp per rollout) else sum(old_logp per rollout)
## Log of a meaning's share of its group's probability.
log_share = logsumexp(log_q per meaning) - logsumexp(log_q per group)
## Semantic entropy of a group, in nats.
semantic_entropy = -mean(log_share per group)
## The same as a share of the largest, log |G|.
uncertainty =
  size = count(reward per group)
  if size > 1 then clip(semantic_entropy / log(size), 0, 1) else 0
## What is left of an advantage at x = alpha times the uncertainty.
fn shape(x) = 1 - x

advantage = base.advantage * shape(alpha * uncertainty)

## Mean semantic entropy of the groups, in nats.
metric semantic_entropy = mean(semantic_entropy)
## Mean number of meanings in a group.
metric meanings = mean(count(meaning per group))
