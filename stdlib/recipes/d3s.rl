# D3S: Dynamic Dual-Level Down-Sampling.
# Chao Wang et al., "Learning More with Less: A Dynamic Dual-Level Down-Sampling Framework for
# Efficient Policy Optimization", 2025, arXiv 2509.22115.
#
# Only the rollouts whose advantages vary most are trained, and of their tokens only those that are
# both uncertain and consequential; both shares grow during training.
#
#     choose the N rollouts of the batch with the largest variance of A: k largest, N - k smallest
#     of their tokens keep the share K with the largest |A_i| H_t
#     [N, K] = (1 - p) [n_init, k_init] + p [n_final, k_final]        p = train.progress
#     L      = mean over kept tokens of -min(r_t A_i, clip(r_t, 1 - low, 1 + high) A_i)
#
# Family: sampling.
# Confidence: secondary.
# Choices: From notes and reviews; no code. The shares, their rounding up, the denominator (kept
# tokens) and the group norm's eps 1e-4 are ours. Advantages are not normalised again. Equal
# advantages are ordered as in the file; of equally good splits the one with fewer large advantages
# counts; equal scores go to the earlier token. Entropy is the current policy's, without gradient,
# so the batch is one piece: give a recorded column instead (`uncertainty = ...`) to cut it into
# micro-batches.

extend grpo

## Share of the batch's rollouts that are trained at the beginning. No unit; 0.25 (suggested; the
## paper's was not found).
param n_init  = 0.25 in [0, 1]
## Share of the batch's rollouts that are trained at the end. No unit; 0.75 (suggested).
param n_final = 0.75 in [0, 1]
## Share of their tokens that are trained at the beginning. No unit; 0.2 (suggested).
param k_init  = 0.2 in [0, 1]
## Share of their tokens that are trained at the end. No unit; 1 (suggested).
param k_final = 1.0 in [0, 1]

progress = train.progress
# Less a hair, so that rounding of a share does not add one.
fn share_of(size, from, to) = ceil(((1 - progress) * from + progress * to) * size - 1e-9)

total  = count(rollout)
wanted = share_of(total, n_init, n_final)
## Prefix sums of the ordered advantages and of their squares.
ordered = sort(advantage in batch)
sums    = cumsum(ordered in batch)
squares = cumsum(ordered ^ 2 in batch)
fn smallest(x, m) = if m > 0 then pick(x, m - 1, 0 in batch) else 0
fn outer(x, k) = smallest(x, wanted - k) + smallest(x, total) - smallest(x, total - k)

# Rollout number k of the batch stands for taking the k largest.
large  = index(rollout in batch)
spread = outer(squares, large) / max(wanted, 1) - (outer(sums, large) / max(wanted, 1)) ^ 2
# Equal up to rounding is equal.
best   = argmax(if large <= wanted then round(spread * 1e9) else -1 in batch)
place  = rank(advantage in batch)
## Whether the rollout is trained.
chosen = place < wanted - best or place >= total - best

## Entropy of the token's distribution, in nats.
uncertainty = detach(entropy)
score   = if chosen then abs(advantage) * uncertainty else -1
kept    = share_of(count(chosen @ token), k_init, k_final)
## Whether the token is trained.
trained = chosen and top(score, kept in batch)
loss    = mean(token_loss where trained)

## Share of the trained tokens whose gradient the clip takes away.
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high) where trained)
## Share of the tokens that are trained.
metric trained_share = token_mean(trained)
