# MTP-D: Self-distillation for multi-token prediction.
# Guoliang Zhao et al., "Self-Distillation for Multi-Token Prediction", 2026, arXiv 2603.23911.
#
# Each further head learns the token it has to predict and, among the main head's likeliest words there,
# the main head's own distribution.
#
#     L    = L_main + sum_k alpha_k mean_t CE_k + sum_k beta_k mean_t KL_k
#     CE_k = -log softmax(z_k)[x]          KL_k = sum_{v in S} p_v (log p_v - log q_v)
#     S: the top_n largest of the main logits y          p = softmax(sg y on S), q = softmax(z_k on S)
#
# Family: multi-token prediction.
# Confidence: secondary.
# Choices: Teacher first in the divergence ("forward KL"), both sides renormalised on S, which is how the
# notes' tilde reads. alpha is not stated; 0.3 over the number of heads, as in DeepSeek-V3. The looped
# extension (heads m + 1 to 2m from copies of the first) is this loss with the frozen heads' alpha and beta
# at 0; for more than four heads, widen the families in your own file.
# To train: a model with MTP heads. Every row belongs to the token it predicts: `vocab/mtp_logits.k` at x_j
# comes from k positions before the main head's row, so teacher and student meet without a shift.
# `token/mtp_mask.k` is false where head k has no such position (the first tokens of a text without a prompt).

extend sft

## Logits of the k-th further head for the token's place.
policy mtp_logits[4] : real @ vocab
## Whether head k predicted the token at all.
input mtp_mask[4] : bool @ token = true

## How many heads there are; the columns of the others are not read. A count; 4 (the paper: 1 to 4).
param heads = 4 in [1, 4]
## Weight of head k's cross-entropy. No unit; 0.075 = 0.3 / 4 (DeepSeek-V3's 0.3 over the heads).
param alpha[4] = 0.075 in [0, inf]
## Weight of head k's divergence from the main head. No unit; 1.0 (the paper).
param beta[4]  = 1.0 in [0, inf]
## Over how many of the main head's likeliest words the divergence goes. A count; 10000 of 122880 (the paper).
param top_n    = 10000 in [1, inf]

# The teacher's words and its distribution over them.
inside  = top(logits, top_n in token)
teacher = log_softmax(if inside then detach(logits) else -inf)

## KL(teacher || student) over the teacher's words, in nats.
fn apart(z) =
  student = log_softmax(if inside then z else -inf)
  sum(exp(teacher) * (teacher - student) where inside per token)

## Negative log-likelihood of the token under a head, in nats.
fn miss(z) = -at(log_softmax(z), action)

mtp_loss = sum(if k > heads then 0 else mean(alpha[k] * miss(mtp_logits[k]) + beta[k] * apart(mtp_logits[k])
                                             where mtp_mask[k]) for k in 1..4)
loss     = base.loss + mtp_loss

## Mean divergence of the first head from the main one, in nats.
metric apart = mean(apart(mtp_logits[1]) where mtp_mask[1])
metric perplexity = exp(token_mean(token_loss))
