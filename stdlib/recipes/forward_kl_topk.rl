# Distillation on the teacher's top-k tokens.
# verl, distillation loss "forward_kl_topk".
#
# The teacher's most likely tokens of every position, and nothing else, are matched.
#
#     L = sum_t sum_{v in top-k of the teacher} q_t(v) (log q_t(v) - log p_t(v)) / (number of tokens)
#
# Family: supervised.
# Confidence: secondary.
# Choices: the teacher's probabilities are not normalised again over the k tokens, and nothing is clamped.
# To train: the teacher's tokens and log-probabilities as rows below each token: `candidate/size`,
# `candidate/teacher_token`, `candidate/teacher_logp`.

extend nothing

level candidate in token
## A token of the vocabulary.
input teacher_token : int @ candidate
## Its log-probability under the teacher, in nats.
input teacher_logp : real @ candidate

## The tokens that are trained on and counted.
loss_mask = mask
keep token where loss_mask

student_logp = at(log_softmax(logits / temperature), teacher_token)
## Forward KL of a token, in nats.
token_loss   = sum(exp(teacher_logp) * (teacher_logp - student_logp) per token)
loss         = token_mean(token_loss)

minimize loss

## Share of the teacher's probability that its rows hold.
metric covered = mean(sum(exp(teacher_logp) per token))
