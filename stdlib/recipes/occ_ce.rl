# MTP cross-entropy: multi-token prediction heads trained beside RL.
# Zili Wang et al., "Joint Training of Multi-Token Prediction in Reinforcement Learning via Optimal
# Coefficient Calibration", 2026, arXiv 2605.28184, its CE regime; code in MarkXCloud/RL-MTP.
#
# The head keeps predicting what the policy sampled, as in pretraining, and its gradient reaches the
# trunk whatever the reward was.
#
#     L = L_RL + lam sum_t -mlp_t / (number of tokens)
#     L_RL as in dapo, with a dual clip: where A < 0 a token's loss is at most -clip_ratio_c A
#
# Family: multi-token prediction.
# Confidence: exact from code.
# Choices: One head, as in the released code; with K heads, declare `policy heads[K] : real @ token` and
# replace `mtp_loss` by the mean of their losses.
# To train: a model with an MTP head, whose log-probability of the sampled token stands on the token it
# predicts (`token/mlp`). The Detach regime is this file with the head's inputs detached by the model: the
# loss is the same number, the trunk gets L_RL alone.

extend dapo

## Log-probability that the MTP head gave to the sampled token, in nats.
policy mlp : real @ token

## Weight of the head's loss. No unit; 0.1 (the smallest of the paper's 0.1, 0.2, 0.5 and 1).
param lam = 0.1 in [0, inf]
## Dual clip: how often its own size a negative advantage's loss may be. A ratio; 10 (the code).
param clip_ratio_c = 10.0 in [1, inf]

advantage = group_norm_verl(reward)
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, clip_ratio_c)
## What the head adds to the loss.
mtp_loss  = -lam * token_mean(mlp)
loss      = base.loss + mtp_loss

## Negative log-likelihood of the sampled tokens under the head, in nats.
metric mtp_nll = -token_mean(mlp)
