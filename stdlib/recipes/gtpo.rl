# GTPO: Group-relative Trajectory-based Policy Optimization.
# Marco Simoni et al., "GTPO: Stabilizing Group Relative Policy Optimization via Gradient and
# Entropy Control", 2025, arXiv 2508.03772.
#
# Tokens with which right and wrong rollouts begin or end alike are pulled both ways: wrong rollouts
# leave them alone, right ones push them harder; rollouts of high entropy are left out.
#
#     A_i = R_i - mean_G R        H_i = mean_t H_t
#     A'_i = [H_i <= entropy_max] (A_i - penalty H_i)
#     F, B = longest run from the start, from the end, of tokens seen at that place under both signs
#     d_t  = d(F_t) d(B_t)        d(conflict) = conflict_gain where A_i > 0, 0 where A_i < 0; else 1
#     L    = sum_i 1 / max(1, |F or B|) mean_t -r_t A'_i d_t        r_t = exp(logp_t - sg[logp_t])
#
# Family: credit assignment.
# Confidence: exact from code.
# Choices: Places are counted over all tokens of a rollout from its start, and back from its last
# kept token; tokens that the mask takes away never count and are passed over by a run. A rollout
# with A_i = 0 takes no part in the test: its weights are 1 and its divisor is 1. Probabilities are
# floored at 1e-6 inside the entropy's logarithm, as in the code, where the batch has logits. The
# code sums over rollouts (no 1/G), and so do we. No clip, no reference model.

extend grpo

## Rollouts of higher mean entropy teach nothing (h0). Nats per token; 0.7 (the code; the paper
## argues for about ln 2).
param entropy_max = 0.7 in [0, inf]
## Price of a rollout's mean entropy (s). Reward per nat; 0.1 (the code).
param entropy_penalty = 0.1 in [0, inf]
## Weight of a conflicting token in a rollout above the mean (w); twice over where it lies in both
## runs. No unit; 2.0 (the code).
param conflict_gain = 2.0 in [0, inf]

## Entropy of softmax(z) with probabilities floored at 1e-6 inside the logarithm, in nats.
fn row_entropy(z) = -sum(softmax(z) * log(max(softmax(z), 1e-6)) per token)

## Reward above the group's mean: its sign says which way a rollout pulls.
pull = center(reward)
## Mean entropy of a rollout's tokens under the current policy, in nats.
rollout_entropy = mean(detach(entropy) per rollout)
## Credit of a rollout, in the unit of the reward.
advantage = if rollout_entropy <= entropy_max then pull - entropy_penalty * rollout_entropy else 0

key from_start = (group, position, action)
# Places counted back from the last kept token.
from_end = max(position per rollout) - position
key at_end = (group, from_end, action)

## Whether both signs have this token at this place.
fn clash(per P = group) =
  right = any(pull @ token > 0 per P)
  wrong = any(pull @ token < 0 per P)
  pull != 0 and right @ token and wrong @ token
clash_at_start = clash(per from_start)
clash_at_end   = clash(per at_end)
## The unbroken run of clashes at the start, and at the end.
opening = scan_and(clash_at_start in rollout)
closing = rscan_and(clash_at_end in rollout)

fn direction(conflict) = if not conflict then 1 else if pull > 0 then conflict_gain else 0
weight = direction(opening) * direction(closing)
## Number of a rollout's tokens in either run, at least 1.
conflicts = max(1, count(opening or closing per rollout))

ratio     = exp(logp - detach(logp))
surrogate = ratio * advantage * weight
loss      = sum(mean(token_loss per rollout) / conflicts)

## Share of the tokens without a gradient: conflicting ones of wrong rollouts, and filtered
## rollouts.
metric clip_fraction = token_mean(weight == 0 or advantage == 0)
## Share of the tokens in either run.
metric conflict_share = token_mean(opening or closing)
