# CalibAdv with the switches of its code.
# "Calibrating (negative) advantages in GRPO for deep search", arXiv 2604.18235; code in wujwyi/CalibAdv.
#
# What the code can do besides; with every switch off, as here, this is calibadv.
#
#     A_t = step(A_i, q_s)          in turns before the last: 0 or less punishment, by the switches
#     A_t = A_i lam N / P where A_i > 0, or A_i P / (lam N) where A_i < 0          in last turns
#     L   as in calibadv
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: The code's target_ratio is 1 / lam. The switches act in this order: step credit, balance of turns,
# balance of template tokens, floor. With `per_turn` the turns before the last are balanced too, each index by
# itself; whether the code then leaves the last turns alone is not known. Means and sums are over the policy's
# tokens of the batch.
# To train: as `calibadv`; `balance_template` needs `token/template`, the tokens that every rollout writes alike,
# such as tags. The paper's third part, to take `<think>` out of the loss, is `mask`'s matter.

extend calibadv

## Whether a step of correctness 1 / 3 or more is not punished at all ("aggressive"). A switch; false (the code).
param aggressive = false
## Whether correctness moves a negative advantage towards the group's largest, not towards 0
## ("positive_upper_limit"). A switch; false (the code).
param positive_upper_limit = false
## Whether a step that all of the group got right earns nothing in positive rollouts ("reset2zero"). A switch;
## false (the code).
param reset2zero = false
## Whether turns before the last are balanced too, by their index. A switch; false (the code).
param per_turn = false
## Whether turns are balanced only where the negatives outweigh the positives ("only_apply_risky"). A switch;
## false (the code).
param only_apply_risky = false
## Whether balance scales the negatives, not the positives. A switch; false (the code).
param scale_negatives = false
## Whether no advantage is further below 0 than the mean positive one, over lam, is above. A switch; false
## (the code).
param floor_batch = false
## Whether the template's tokens are balanced over the batch. A switch; false (the code).
param balance_template = false
## From which step on they are. In optimiser steps; 10 (the code).
param template_from = 10 in [0, inf]

## Tokens that every rollout writes alike.
input template : bool @ token = false

credit = group_norm_verl(reward)
last   = is_last(turn in rollout)
key place = (group, index(turn in rollout))

ceiling = max(max(credit per group), 0)
spared  = if aggressive and step_correct >= 1 / 3 then 1 else step_correct
eased   = if positive_upper_limit then credit + (ceiling - credit) * step_correct else credit * (1 - spared)
common  = (mean(step_correct where not last per place) == 1) @ turn
step    = if credit < 0 then eased else if reset2zero and common then 0 else credit

## x with its positive sum over tokens lam times its negative one; 0 where either is missing.
fn balanced(x, those per L = group) =
  positive = sum(max(x, 0) @ token where those per L)
  negative = sum(max(-x, 0) @ token where those per L)
  raised   = if x > 0 and not scale_negatives then x * lam * negative / positive
             else if x < 0 and scale_negatives then x * positive / (lam * negative)
             else x
  if positive <= 0 or negative <= 0 then 0
    else if only_apply_risky and lam * negative <= positive then x
    else raised

turned = if last then balanced(credit, last)
         else if per_turn then balanced(step, not last per place)
         else step

positive = sum(max(turned, 0) @ token where template)
negative = sum(max(-turned, 0) @ token where template)
shared   = if negative > 0 then turned / (positive / negative + 1e-8) else 0
begun    = if balance_template then train.step >= template_from else false
levelled = if begun and template and turned > 0 then shared else turned

lowest    = mean(levelled @ token where levelled > 0) / lam
advantage = if floor_batch then max(levelled, -lowest) else levelled
