"""The losses as a careful user writes them, over torch or jax.numpy, in a padded and in a packed layout.

`xp` is the library. A layout sums tokens over rollouts (`total`) and gives a rollout's number to its tokens (`spread`).
A batch `b` is a dict of arrays: old_logp, ref_logp, mask, reward, advantage, step_correct, last.
"""


class Padded:
    """Tokens are [rollouts, longest]."""

    def __init__(self, take=None):
        # From [rollouts, turns] to the tokens.
        self.take = take

    def total(self, x):
        return x.sum(1)

    def spread(self, x):
        return x[:, None]

    def of_turn(self, x):
        return self.take(x)


class Packed:
    """Tokens are one row; `segments` adds up by rollout, the others pick by number."""

    def __init__(self, segments, rollout, turn):
        self.segments, self.rollout, self.turn = segments, rollout, turn

    def total(self, x):
        return self.segments(x)

    def spread(self, x):
        return self.rollout(x)

    def of_turn(self, x):
        return self.turn(x)


def group_norm(xp, reward, group, eps):
    """Rewards in standard deviations of their group."""
    r = reward.reshape(-1, group)
    gap = r - r.mean(1)[:, None]
    deviation = xp.sqrt((gap * gap).sum(1) / (group - 1))
    return (gap / (deviation[:, None] + eps)).reshape(-1)


def clipped(xp, ratio, a, low, high):
    return -xp.minimum(ratio * a, xp.clip(ratio, 1 - low, 1 + high) * a)


def mean_of_rollouts(xp, layout, x, mask):
    """Mean over the tokens that count, then over rollouts."""
    count = layout.total(mask)
    return (layout.total(x * mask) / xp.maximum(count, xp.ones_like(count))).mean()


def advantage_of(xp, b, group):
    return b["advantage"] if "advantage" in b else group_norm(xp, b["reward"], group, 1e-4)


def grpo(xp, layout, group, logp, b):
    """Token ratios, mean per rollout."""
    a = layout.spread(advantage_of(xp, b, group))
    return mean_of_rollouts(xp, layout, clipped(xp, xp.exp(logp - b["old_logp"]), a, 0.2, 0.2), b["mask"])


def grpo_k3(xp, layout, group, logp, b):
    """With the k3 estimate of the KL to a reference."""
    a = layout.spread(advantage_of(xp, b, group))
    gap = b["ref_logp"] - logp
    x = clipped(xp, xp.exp(logp - b["old_logp"]), a, 0.2, 0.2) + 0.04 * (xp.expm1(gap) - gap)
    return mean_of_rollouts(xp, layout, x, b["mask"])


def gspo(xp, layout, group, logp, b):
    """One ratio per rollout."""
    count = layout.total(b["mask"])
    gap = layout.total((logp - b["old_logp"]) * b["mask"]) / xp.maximum(count, xp.ones_like(count))
    return clipped(xp, xp.exp(gap), advantage_of(xp, b, group), 3e-4, 4e-4).mean()


def calibadv(xp, layout, group, logp, b):
    """Advantages calibrated by turn, mean over tokens."""
    a = group_norm(xp, b["reward"], group, 1e-6)
    zero = xp.zeros_like(a)
    in_last = layout.total(b["mask"] * b["last"])
    mass = lambda x: (x * in_last).reshape(-1, group).sum(1)[:, None]
    positive, negative = mass(xp.maximum(a, zero)), mass(xp.maximum(-a, zero))
    by_group = a.reshape(-1, group)
    safe = xp.where(positive > 0, positive, xp.ones_like(positive))
    balanced = xp.where(by_group > 0, by_group * negative / safe, by_group)
    answer = xp.where((positive > 0) & (negative > 0), balanced, xp.zeros_like(balanced)).reshape(-1)
    a, answer = layout.spread(a), layout.spread(answer)
    softened = xp.where(a < 0, a * (1 - layout.of_turn(b["step_correct"])), a)
    a = xp.where(b["last"] > 0, answer, softened)
    x = clipped(xp, xp.exp(logp - b["old_logp"]), a, 0.2, 0.2)
    return (x * b["mask"]).sum() / b["mask"].sum()


def with_distribution(xp, group, new, ref, logp, b, entropy_weight=0.01, kl_weight=0.05):
    """grpo with an entropy bonus (mean over tokens), or with bonus and full KL (mean per rollout); padded."""
    p = xp.exp(new)
    entropy = -(p * new).sum(-1)
    if ref is None:
        bonus = (entropy * b["mask"]).sum() / b["mask"].sum()
        return grpo(xp, Padded(), group, logp, b) - entropy_weight * bonus
    extra = kl_weight * (p * (new - ref)).sum(-1) - entropy_weight * entropy
    return grpo(xp, Padded(), group, logp, b) + mean_of_rollouts(xp, Padded(), extra, b["mask"])


PLAIN = {"grpo": grpo, "grpo_k3": grpo_k3, "gspo": gspo, "calibadv": calibadv}
