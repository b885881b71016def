# cDPO: DPO on critical tokens.
# Zicheng Lin et al., "Critical Tokens Matter: Token-Level Contrastive Estimation Enhances LLM's
# Reasoning Capability", 2024, arXiv 2411.19943.
#
# Rejected rollouts are punished at the tokens that a model of wrong answers likes better than a
# model of right ones.
#
#     q_t = softmax((1 + contrast) z_pos - contrast z_neg)[y_t]        c_t = 1 - q_t
#     a   = sum_t u_t of the chosen        z = sum_t c_t u_t of the rejected
#     L   = mean over pairs of -log sigmoid(beta (a - z))
#     u_t = logp_t - ref_logp_t
#
# Family: preferences.
# Confidence: exact from code.
# Choices: The loss above is the paper's, recalled and not checked. The code's pairs the two
# rollouts token by token, mean over positions of -log sigmoid(beta (c u of the chosen - c u of the
# rejected)), and counts padding as log 2: position_paired = true. Its positions include the prompt,
# ours are those of the completions, padded to the batch's longest. only_neg = false weighs chosen
# tokens by q.
# To train: pairs, as for dpo, and `token/q_t` from two frozen models tuned on right and on wrong
# answers (or their logits, with from_logits = true).

extend dpo

## Whether chosen tokens have weight 1 instead of q. On (the code).
param only_neg = true
## Whether q comes from the two models' logits instead of the column `q_t`. Off (our choice).
param from_logits = false
## Strength of the contrast between the two models. No unit; 1 (the code).
param contrast = 1.0 in [0, inf]
## Whether chosen and rejected are paired position by position, as in the code. Off (the paper).
param position_paired = false

## Probability of the token in the contrast of the two models.
input q_t : real @ token
## Logits of the model tuned on right answers; read with from_logits = true.
input pos_logits : real @ vocab
## Logits of the model tuned on wrong answers; read likewise.
input neg_logits : real @ vocab

contrasted = at(softmax((1 + contrast) * pos_logits - contrast * neg_logits), action)
likely     = if from_logits then contrasted else q_t
weight     = if not is_chosen then 1 - likely else if only_neg then 1 else likely
score      = sum(weight * token_score per rollout)

key place = (pair, position)
side       = if is_chosen then 1 else -1
place_loss = -log_sigmoid(beta * sum(side * weight * token_score per place))
## Positions of all pairs, padded to the longest rollout of the batch.
padded     = count(pair) * max(max(length), 1)
empty      = padded - count(place)
loss       = if not position_paired then base.loss
             else (sum(place_loss) + empty * log(2)) / max(padded, 1)

## Mean weight of the rejected tokens.
metric rejected_weight = mean(weight where not is_chosen @ token)
