# Robust DPO: preferences with flipped labels.
# Sayak Ray Chowdhury et al., "Provably Robust DPO: Aligning Language Models with Noisy Feedback", 2024,
# arXiv 2403.00409.
#
# The loss is unbiased when a known share of the labels is flipped.
#
#     L = mean over pairs of [-(1 - e) log sigmoid(beta D) + e log sigmoid(-beta D)] / (1 - 2 e)
#
# Family: preferences.
# Confidence: exact from code.
# Choices: TRL's default share of flipped labels, 0, is DPO; here it is 0.1, so that the file does what its
# name says.

extend dpo

## Share e of flipped labels. No unit; 0.1 (TRL, label_smoothing: 0).
param label_smoothing = 0.1 in [0, 0.499]

pair_loss = (label_smoothing * log_sigmoid(-beta * margin)
             - (1 - label_smoothing) * log_sigmoid(beta * margin)) / (1 - 2 * label_smoothing)
