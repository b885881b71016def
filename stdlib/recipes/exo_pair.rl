# EXO: Efficient Exact Optimization, on pairs.
# Haozhe Ji et al., "Towards Efficient Exact Optimization of Language Model Alignment", 2024, arXiv
# 2402.00856.
#
# The reverse KL from the policy's distribution over a pair to the labels', instead of DPO's forward KL.
#
#     q = sigmoid(beta D)          D as in dpo
#     L = mean over pairs of q (log q - log(1 - e)) + (1 - q) (log(1 - q) - log e)
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

## Share e of flipped labels; not 0. No unit; 1e-3 (the value TRL sets when none is given).
param label_smoothing = 1e-3 in [1e-9, 0.5]

win       = sigmoid(beta * margin)
pair_loss = win * (log_sigmoid(beta * margin) - log1p(-label_smoothing))
            + (1 - win) * (log_sigmoid(-beta * margin) - log(label_smoothing))
