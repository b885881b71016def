# prime-rl's IPO loss.
# PrimeIntellect-ai/prime-rl, loss type "ipo".
#
# The default loss with one bound on how far a probability may move, for both signs of the advantage.
#
#     keep_t = |p_t - q_t| <= bound          L as in prime_rl
#
# Family: ratio and clip.
# Confidence: exact from code.

extend prime_rl

## How far a probability may move before the token stops pushing. No unit; 0.1 (prime-rl).
param bound = 0.1 in [0, inf]

kept = abs(moved) <= bound
