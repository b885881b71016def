# Step-GRPO: step-wise GRPO of R1-Router.
# Chunyi Peng et al., "Learning to Route Queries Across Knowledge Bases for Step-wise Retrieval-Augmented
# Reasoning", 2025, arXiv 2505.22095; code in OpenBMB/R1-Router.
#
# Every reasoning step is sampled and compared on its own: a retrieval step is paid for its query and its
# choice of knowledge base, an answer step for its answer.
#
#     R = sim / 2 + [retriever_ok] / 2          of a retrieval step
#     R = recall if gold_long, else [recall = 1]          of an answer step
#     A = (R - mean_G R) / (std_G R + eps)          L = sum_t [ l_t - entropy_coef H_t ] / (number of tokens)
#
# Family: reward.
# Confidence: exact from code.
# Choices: A rollout is one step with its history as the prompt; a group is the samples of one step. The code's
# KL term is commented out. The entropy's weight, like the clip, comes from the framework's example settings,
# which were not checked: 0.001 and 0.2.
# To train: a teacher's steps as prompts, and for each sample its kind, the similarity of its query to the
# teacher's, whether it named the right retriever, the recall of its answer and whether the gold one is long.

extend bnpo

## What the step was to do: 0 retrieve, 1 answer.
input step_type : int @ rollout
## Cosine similarity of the sub-query to the teacher's.
input sim : real @ rollout
## Whether exactly one retriever is named, and it is the teacher's.
input retriever_ok : bool @ rollout
## Token recall of the gold answer with the best F1, from 0 to 1.
input recall : real @ rollout
## Whether the only gold answer has more than five words.
input gold_long : bool @ rollout
## Whether every tag is there; if not, the step earns nothing.
input tags_ok : bool @ rollout = true

## Weight of the entropy bonus. Loss per nat; 0.001 (the framework's default at the time, unchecked).
param entropy_coef = 0.001 in [0, inf]

asked     = 0.5 * sim + 0.5 * real(retriever_ok)
answered  = if gold_long then recall else real(recall == 1)
reward    = if not tags_ok then 0 else if step_type == 0 then asked else answered
advantage = group_norm_verl(reward)

bonus      = if entropy_coef == 0 then 0 else entropy_coef * entropy
token_loss = base.token_loss - bonus

## Mean reward of the retrieval steps.
metric asked    = mean(reward where step_type == 0)
## Mean reward of the answer steps.
metric answered = mean(reward where step_type == 1)
