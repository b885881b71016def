# PS-GRPO: Paraphrased Set GRPO.
# Faisal Hamman et al., "Improving Consistency in Retrieval-Augmented Systems with Group Similarity
# Rewards", 2025, arXiv 2510.04392.
#
# A question is put in several wordings, and an answer is paid for agreeing with the answers to the others.
#
#     Rcons_i = mean of sim(o_i, o_u) over rollouts u of the set's other paraphrases
#     R_i     = a Rcons_i + c F1_i          A_i = (R_i - mean) / std, within the paraphrase
#     L as in grpo
#
# Family: reward.
# Confidence: secondary.
# Choices: A group is one paraphrase, so the set of a question is several groups. a, c, eps and beta are not
# stated: 1, 1, 1e-6 and GRPO's 0; ddof = 1. Long-form answers are paid for consistency alone: c = 0.
# To train: paraphrases of each question (6 in the paper, 4 rollouts each), and a scorer that compares rollouts
# across them, such as BLEU of orders 1 and 2; `ps_grpo_pairs` takes the single comparisons.

extend grpo

## Mean similarity to the rollouts of the set's other paraphrases.
input Rcons : real @ rollout
## Token F1 against the gold answer.
input F1 : real @ rollout

## Weight of consistency. No unit; 1 (ours).
param a = 1.0
## Weight of the answer's F1. No unit; 1 (ours); 0 for long-form answers, which have none.
param c = 1.0

reward    = a * Rcons + (if c == 0 then 0 else c * F1)
advantage = norm(reward)

## Mean similarity across paraphrases.
metric consistency = mean(Rcons)
