# LLDS as the baseline in CalibAdv's code.
# "Calibrating (negative) advantages in GRPO for deep search", arXiv 2604.18235; code in wujwyi/CalibAdv.
#
# Only tokens of good rollouts must not become less likely; each pays less, but none is let off by its
# neighbours.
#
#     L = L_bnpo + lambda sum_t max(0, old_logp_t - logp_t) / (number of kept tokens)          kept: A_i > 0
#
# Family: KL and entropy.
# Confidence: exact from code.
# Choices: The code has this without a gate and with one per rollout: `response_gate`. No entropy bonus and no KL
# penalty, as in calibadv.
# To train: several updates per batch of rollouts, as for `llds`.

extend llds

## Price of a nat that a kept token lost. Loss per nat; 0.1 (the code).
param lambda = 0.1 in [0, inf]
## Weight of the entropy bonus. Loss per nat; 0 (the code).
param entropy_coef = 0.0 in [0, inf]
## Weight of the KL penalty to the reference policy. Loss per nat; 0 (the code).
param beta = 0.0 in [0, inf]

kept = loss_mask and advantage > 0
gate = not response_gate or base.gate
# Over the kept tokens alone, where the base's mean is over all.
lld  = base.lld * count(token) / max(count(token where kept), 1)
