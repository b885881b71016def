# DPO with the hinge loss.
# Tianqi Liu et al., "Statistical Rejection Sampling Improves Preference Optimization", 2023, arXiv
# 2309.06657; after Yao Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with Human Feedback", 2023,
# arXiv 2305.10425.
#
# A pair whose margin is large enough teaches nothing any more.
#
#     L = mean over pairs of max(0, 1 - beta D)          D as in dpo
#
# Family: preferences.
# Confidence: exact from code.

extend dpo

pair_loss = relu(1 - beta * margin)
