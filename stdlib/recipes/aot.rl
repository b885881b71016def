# AOT: Alignment via Optimal Transport, paired.
# Igor Melnyk et al., "Distributional Preference Alignment of LLMs via Optimal Transport", 2024, arXiv
# 2406.05882.
#
# The distribution of the policy's margins over the batch shall lie above that of the reference's: sorted
# margins are compared, not those of one pair.
#
#     x = sort(logp_c - logp_r)          y = sort(ref_c - ref_r)          sums over tokens, sorted in the batch
#     L = mean of -log sigmoid(beta (x - y))
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

## Share of flipped labels. No unit; 0.0 (TRL, label_smoothing).
param label_smoothing = 0.0 in [0, 0.5]

fn side_gap(x) =
  total = sum(x per rollout)
  mean(total where is_chosen per pair) - mean(total where not is_chosen per pair)

margin    = sort(side_gap(logp) in batch) - sort(side_gap(ref_logp) in batch)
pair_loss = -(1 - label_smoothing) * log_sigmoid(beta * margin)
            - label_smoothing * log_sigmoid(-beta * margin)

## Share of the ranks at which the policy's margin lies above the reference's.
metric accuracy = mean(margin > 0)
