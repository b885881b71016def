# GKD: Generalized Knowledge Distillation.
# Rishabh Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
# 2023, arXiv 2306.13649.
#
# The generalised Jensen-Shannon divergence between teacher and student on rollouts of the student.
#
#     M = beta q + (1 - beta) p          p: student, q: teacher
#     L = sum_t [beta KL(q || M) + (1 - beta) KL(p || M)] / (number of tokens in the batch)
#
# Family: supervised.
# Confidence: secondary.
# Choices: beta 0 is KL(q || p) and beta 1 KL(p || q), as TRL's GKDTrainer has the ends. Both distributions are
# at the policy's temperature.
# To train: the teacher's logits as those of the reference, `vocab/ref_logits`.

extend nothing

## Weight of the teacher in the mixture. No unit; 0.5 (TRL, beta).
param beta = 0.5 in [0, 1]

## The tokens that are trained on and counted.
loss_mask = mask
keep token where loss_mask

# KL of a token's distribution to another, in nats. A logit of -inf has probability 0 and adds 0.
fn relative(x, log_x, log_y) = sum(if x > 0 then x * (log_x - log_y) else 0 per token)

log_p = log_softmax(logits / temperature)
log_q = log_softmax(ref_logits / temperature)
p     = exp(log_p)
q     = exp(log_q)
log_m = log(beta * q + (1 - beta) * p)
## Divergence of a token's distributions, in nats.
token_loss = if beta == 0 then relative(q, log_q, log_p)
             else if beta == 1 then relative(p, log_p, log_q)
             else beta * relative(q, log_q, log_m) + (1 - beta) * relative(p, log_p, log_m)
loss       = token_mean(token_loss)

minimize loss

## Mean divergence of the tokens where the student chose, in nats: log p - log q of its token.
metric reverse_kl = token_mean(at(log_p, action) - at(log_q, action))
