# TW-GRPO from full distributions.
# Jisheng Dang et al., "Reinforcing Video Reasoning with Focused Thinking", 2025, arXiv 2505.24718.
#
# The divergences that weigh the positions in tw_grpo, computed from every rollout's whole
# distribution.
#
#     lbar_tv = mean_i log p_itv        a rollout that has ended counts as uniform: -log V
#     K_t     = mean_i sum_v (exp(d_v) - d_v - 1)        d_v = clip(lbar_tv - log p_itv, -11, 11)
#     w_t, L  as in tw_grpo
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: The distributions are recorded rows below each token, so the weights are constants. A
# token that the mask takes away counts as ended.
# To train: `entry/log_p`, one row for each word of the vocabulary below each token (`entry/size`):
# for small vocabularies. Otherwise record K_t or w_t and use tw_grpo.

extend tw_grpo

## Whether the weights come from K_t instead of w_t. On.
param from_divergence = true

## A word of the vocabulary, below each token.
level entry in token
## Log-probability of the word under the policy, in nats.
input log_p : real @ entry

word_id  = index(entry in token)
key spot = (group, position)
key word = (group, position, word_id)

rollouts = count(rollout per group)
## Rollouts of the group that have no token at a position.
ended    = rollouts - count(token per spot)
uniform  = -log(real(max(count(entry per token))))
## Mean log-probability of a word at a position.
average  = (sum(log_p per word) + ended * uniform) / rollouts

fn distance(x) =
  d = clip(x, -11, 11)
  expm1(d) - d
present = sum(distance(average @ entry - log_p) per spot)
absent  = ended * sum(distance(average - uniform) per spot)
## Divergence of the group's distributions at the token's position, in nats.
K_t     = ((present + absent) / rollouts) @ token
