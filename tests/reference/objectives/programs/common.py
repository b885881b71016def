"""What the program files share: registering a case, drawing its batch, a few reference helpers."""

import math

import numpy as np
import torch

from batches import calibadv_example, items, random_batch
from derived import Key, Pairs, Rows, cells, group_of, positions, prefixes, runs, splits, turns
from published import DEFAULTS, Run, calibrated, clip_objective, is_clipped, k3, ppo_tokens, seq_mean
from published import published, token_mean, turn_values, z_scores
from table import Answer, Batch, Table, ZERO, const, deviation, mean, minus_mean, total, variance

PROGRAMS = []


class Case:
    def __init__(self, name, source, batch, reference, settings=None, files=None, extra=False, program=None):
        self.name, self.source, self.batch, self.reference = name, source, batch, reference
        self.settings, self.files = settings or {}, files or {}
        self.extra = extra  # beyond the first issue: may be "not implemented yet"
        self.program = program  # a stdlib name, where source is None


def program(name, source, batch, settings=None, files=None, extra=False):
    def register(reference):
        text = source.lstrip("\n")
        PROGRAMS.append(Case(name, text, batch, reference, settings, files=files, extra=extra))
        return reference

    return register


def stdlib_case(name, stdlib, batch, reference, settings=None):
    """A stdlib objective on a batch of its own; without a reference the published one."""
    PROGRAMS.append(Case(name, None, batch, reference, settings, program=stdlib))


def rebuildable(builder):
    """Lets the fuzzer draw the same kind of batch again: `batch.again(seed, groups=...)`."""

    def build(seed, **kw):
        batch = builder(seed, **kw)
        batch.again = lambda seed, **more: build(seed, **{**kw, **more})
        return batch

    return build


@rebuildable
def small(seed, **kw):
    return random_batch(seed, **{"groups": (3, 1, 2), "max_len": 6, "vocab": None, "equal_group": None, **kw})


def vocab(seed, **kw):
    return small(seed, **{"vocab": 8, **kw})


@rebuildable
def with_items(seed, empty=False, **kw):
    return items(small(seed, **kw), seed, empty=empty)


GRPO = DEFAULTS["grpo"]


def grpo_advantage(t, eps=1e-4):
    return z_scores(t, t.col("rollout/reward"), eps)


def quantile(values, q):
    """Linear between the order statistics at q * (n - 1)."""
    values = sorted(values, key=lambda v: v.item())
    if not values:
        return ZERO
    place = q * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def product(values):
    out = const(1.0)
    for v in values:
        out = out * v
    return out


def largest(values, default=ZERO):
    """Ties share the gradient."""
    values = list(values)
    if not values:
        return const(default)
    return torch.stack(values).amax()


def z_score_in(key, x, eps=1e-6):
    """norm(x per key): element -> (x - mean) / (std + eps) over the key's elements."""
    out = {}
    for mine in key.members:
        spread = deviation([x[e] for e in mine])
        for e, above in zip(mine, minus_mean([x[e] for e in mine])):
            out[e] = above / (spread + eps)
    return out


def within(nested, values):
    """mean over the inner elements of every outer one: {outer: mean}; outer elements with none are missing."""
    return {o: mean(values[c] for c in inner) for o, inner in nested.items()}


def mixed(x):
    """splitmix64's output function, which `uniform` is made of."""
    word = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & word
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
    return x ^ (x >> 31)


def uniform(t, level, count):
    """The draws of a level's elements; levels count from the batch, 0."""
    seed = mixed(t.ints("batch/seed")[0] ^ mixed(level))
    return [(mixed((seed + k) & ((1 << 64) - 1)) >> 11) / 2.0 ** 53 for k in range(count)]
