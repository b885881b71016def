# OCC: Optimal Coefficient Calibration for multi-token prediction in RL.
# Zili Wang et al., "Joint Training of Multi-Token Prediction in Reinforcement Learning via Optimal
# Coefficient Calibration", 2026, arXiv 2605.28184; code in MarkXCloud/RL-MTP.
#
# The weight of the head's policy loss follows how far its log-probabilities move with the main head's:
# a proxy of the weight that helps the RL objective most.
#
#     lam = lam_plus mean_t [ d_t e_t / (e_t^2 + 1e-8) ]          d = logp - old_logp, e = mlp - old_logp
#     L   = L_PG(logp, A) + L_PG(mlp, lam A)          lam has no gradient; L_PG as in occ_policy
#
# Family: multi-token prediction.
# Confidence: exact from code.
# Choices: The code takes the mean of per-token quotients, which explode where e is near 0; the paper's
# quotient of sums is `paper_coefficient`. The code's mean also counts padding, per micro-batch; here it is
# over the tokens of the whole batch. lam_plus is the paper's 1 (the example script has 0.1).
# To train: a model with an MTP head, as for `occ_ce`, and several updates per batch of rollouts: in the
# first one logp = old_logp, so lam is 0.

extend occ_policy

## Scale of the calibrated weight. No unit; 1.0 (the paper; 0.1 in the code's example script).
param lam_plus = 1.0 in [0, inf]
## Whether the weight is a quotient of sums over tokens, as in the paper, not a mean of quotients.
## A switch; false (the code).
param paper_coefficient = false

# How far the two heads have moved from where the tokens were sampled.
d = detach(logp - old_logp)
e = detach(mlp - old_logp)

## Weight of the head's loss. No unit; of either sign.
lam = lam_plus * (if paper_coefficient then sum(d * e) / (sum(e ^ 2) + 1e-8)
                  else mean(d * e / (e ^ 2 + 1e-8)))

## The weight that this batch got.
metric coefficient = lam
