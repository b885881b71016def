# AOT: Alignment via Optimal Transport, unpaired.
# Igor Melnyk et al., "Distributional Preference Alignment of LLMs via Optimal Transport", 2024, arXiv
# 2406.05882.
#
# The rewards of the chosen, as a distribution over the batch, shall lie above those of the rejected.
#
#     L = mean of -log sigmoid(beta (sort(a) - sort(z)))          a, z as in dpo, sorted in the batch
#
# Family: preferences.
# Confidence: exact from code.

extend aot

margin = sort(chosen in batch) - sort(rejected in batch)
