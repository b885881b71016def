"""A ragged batch: how it is written to a file, and how a reference walks over it.

Nothing here knows the objective language. A reference sees lists: groups of rollouts, rollouts of
turns, turns of tokens, and float64 torch columns over them.
"""

import copy

import numpy as np
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)

# Columns that the standard inputs declare as differentiable; a batch may name more (policy columns).
DIFFERENTIABLE = {"vocab/logits", "token/logp", "token/entropy", "token/value"}


class Batch:
    """What a batch file holds: structure arrays and columns, in the types of the file."""

    def __init__(self, group_size, rollout_size, turn_size=None, rollout_turns=None):
        self.group_size = list(group_size)
        self.rollout_size = list(rollout_size)
        assert sum(self.group_size) == len(self.rollout_size)
        self.segmentations = {}  # level -> (sizes, elements per rollout or None)
        self.rows = {}  # level below a token or beside the tokens -> (parent level, rows per parent)
        if turn_size is not None:
            self.segment("turn", turn_size, rollout_turns)
        self.columns = {}
        self.policy = set()
        self.again = None  # draws another batch of the same kind
        self.half = {}  # column -> 16-bit type in the file; the values here are rounded to it

    def segment(self, level, sizes, counts=None):
        assert sum(sizes) == sum(self.rollout_size)
        self.segmentations[level] = (list(sizes), None if counts is None else list(counts))

    def hang(self, level, parent, sizes):
        """Rows under each token, rollout or element of a segmentation."""
        above = {"token": sum(self.rollout_size), "rollout": len(self.rollout_size)}
        assert len(sizes) == (above[parent] if parent in above else len(self.segmentations[parent][0]))
        self.rows[level] = (parent, [int(n) for n in sizes])

    def put(self, name, values, dtype=np.float32, policy=False):
        self.columns[name] = np.ascontiguousarray(np.asarray(values, dtype=dtype))
        if policy:
            self.policy.add(name)
        return self

    def narrow(self, name, dtype):
        """Stores a column in 16 bits: torch.bfloat16 or torch.float16."""
        rounded = torch.from_numpy(self.columns[name].astype(np.float32)).to(dtype)
        self.columns[name] = rounded.float().numpy()
        self.half[name] = dtype
        return self

    def copy(self):
        other = copy.copy(self)
        other.columns = dict(self.columns)
        return other

    def without(self, *names):
        other = self.copy()
        for name in names:
            other.columns.pop(name, None)
        if self.again:
            other.again = lambda seed, **kw: self.again(seed, **kw).without(*names)
        return other

    def arrays(self):
        out = {
            "group/size": np.asarray(self.group_size, np.int64),
            "rollout/size": np.asarray(self.rollout_size, np.int64),
        }
        for level, (sizes, counts) in self.segmentations.items():
            out[f"{level}/size"] = np.asarray(sizes, np.int64)
            if counts is not None:
                out[f"rollout/{level}s"] = np.asarray(counts, np.int64)
        for level, (_, sizes) in self.rows.items():
            out[f"{level}/size"] = np.asarray(sizes, np.int64)
        out.update(self.columns)
        return out

    def save(self, path):
        tensors = {n: torch.from_numpy(np.array(a)) for n, a in self.arrays().items()}
        for name, dtype in self.half.items():
            tensors[name] = tensors[name].to(dtype)
        save_file(tensors, str(path))


class Table:
    """One batch as nested lists. Filters give a new table that shares the columns."""

    def __init__(self, batch):
        self.batch = batch
        self.groups, first = [], 0
        for size in batch.group_size:
            self.groups.append(list(range(first, first + size)))
            first += size
        self.all_tokens, first = [], 0
        for size in batch.rollout_size:
            self.all_tokens.append(list(range(first, first + size)))
            first += size
        self.token_count = first
        self.rollout_count = len(batch.rollout_size)
        self.rollout_of = [r for r, ts in enumerate(self.all_tokens) for _ in ts]
        self.group_of = [g for g, rs in enumerate(self.groups) for _ in rs]
        self.group_ids = list(range(len(self.groups)))
        self.kept = [True] * first
        self.kept_rollout = [True] * self.rollout_count
        # level -> (elements of each rollout, all tokens of each element)
        self.segments = {}
        for level, (sizes, counts) in batch.segmentations.items():
            self.segments[level] = split(self.all_tokens, sizes, counts)
        if "turn" not in self.segments:
            self.segments["turn"] = ([[r] for r in range(self.rollout_count)], list(self.all_tokens))
        self.rows = {}  # level -> (parent level, rows of each parent)
        for level, (parent, sizes) in batch.rows.items():
            ends = np.cumsum(sizes).tolist()
            self.rows[level] = (parent, [list(range(e - n, e)) for e, n in zip(ends, sizes)])
        self.cache = {}

    # ---- structure, as the filters left it ----

    @property
    def rollouts(self):
        return [r for r in range(self.rollout_count) if self.kept_rollout[r]]

    @property
    def live_groups(self):
        """The kept groups with their kept rollouts (a kept group may have none)."""
        return [[r for r in self.groups[g] if self.kept_rollout[r]] for g in self.group_ids]

    def tokens(self, rollout=None):
        """Kept tokens, of one rollout or of the batch."""
        if rollout is None:
            return [t for r in self.rollouts for t in self.tokens(r)]
        return [t for t in self.all_tokens[rollout] if self.kept[t]] if self.kept_rollout[rollout] else []

    def elements(self, rollout, level="turn"):
        """The elements of a segmentation in one rollout, emptied ones included."""
        return self.segments[level][0][rollout]

    def tokens_in(self, element, level="turn"):
        return [t for t in self.segments[level][1][element] if self.kept[t]]

    def element_of(self, level="turn"):
        """token -> element"""
        owner = [None] * self.token_count
        for e, ts in enumerate(self.segments[level][1]):
            for t in ts:
                owner[t] = e
        return owner

    # ---- filters ----

    def keep_tokens(self, condition):
        other = copy.copy(self)
        other.kept = [k and bool(condition(t)) for t, k in enumerate(self.kept)]
        return other

    def keep_rollouts(self, condition):
        other = copy.copy(self)
        other.kept_rollout = [k and bool(condition(r)) for r, k in enumerate(self.kept_rollout)]
        other.kept = [k and other.kept_rollout[self.rollout_of[t]] for t, k in enumerate(self.kept)]
        return other

    def keep_groups(self, condition):
        passed = {g for g in self.group_ids if condition(g)}
        other = self.keep_rollouts(lambda r: self.group_of[r] in passed)
        other.group_ids = [g for g in self.group_ids if g in passed]
        return other

    def masked(self):
        """What `keep token where mask` leaves."""
        if "token/mask" not in self.batch.columns:
            return self
        mask = self.batch.columns["token/mask"]
        return self.keep_tokens(lambda t: mask[t] != 0)

    # ---- columns ----

    def col(self, name):
        if name not in self.cache:
            values = torch.tensor(self.batch.columns[name].astype(np.float64))
            values.requires_grad_(name in DIFFERENTIABLE or name in self.batch.policy)
            self.cache[name] = values
        return self.cache[name]

    def ints(self, name):
        return [int(v) for v in self.batch.columns[name]]

    def has(self, name):
        return name in self.batch.columns

    def logp(self, temperature=1.0):
        """Log-probability of every token, from the logits where the batch has them."""
        if not self.has("vocab/logits"):
            return self.col("token/logp")
        rows = torch.log_softmax(self.col("vocab/logits") / temperature, dim=-1)
        return rows[torch.arange(self.token_count), torch.tensor(self.ints("token/action"))]

    def entropy(self, temperature=1.0):
        """Entropy of every token's distribution; a logit of -inf takes no part."""
        if not self.has("vocab/logits"):
            return self.col("token/entropy")
        out = []
        for row in self.col("vocab/logits"):
            finite = row[torch.isfinite(row.detach())] / temperature
            log_p = finite - torch.logsumexp(finite, dim=0)
            out.append(-(log_p.exp() * log_p).sum())
        return torch.stack(out)


def split(all_tokens, sizes, counts):
    """Cuts rollouts into elements of the given sizes; counts says how many each rollout has."""
    of_rollout, tokens, k = [], [], 0
    for r, ts in enumerate(all_tokens):
        mine, used = [], 0
        while (len(mine) < counts[r]) if counts is not None else (used < len(ts)):
            mine.append(k)
            tokens.append(ts[used : used + sizes[k]])
            used += sizes[k]
            k += 1
        assert used == len(ts), (r, used, len(ts))
        of_rollout.append(mine)
    assert k == len(sizes)
    return of_rollout, tokens


ZERO = torch.zeros((), dtype=torch.float64)


def const(x):
    return x if torch.is_tensor(x) else torch.tensor(float(x), dtype=torch.float64)


def total(values):
    out = ZERO
    for v in values:
        out = out + v
    return out


def mean(values):
    """Of nothing: 0."""
    values = list(values)
    return total(values) / len(values) if values else ZERO


def variance(values, ddof=1):
    """0 for fewer than ddof + 1 elements."""
    values = list(values)
    if len(values) < ddof + 1:
        return ZERO
    m = mean(values)
    return total((v - m) ** 2 for v in values) / (len(values) - ddof)


def deviation(values, ddof=1):
    """0, without gradient, for too few or for equal elements."""
    values = [const(v) for v in values]
    if len(values) < ddof + 1 or all(v.item() == values[0].item() for v in values):
        return ZERO
    return variance(values, ddof).sqrt()


def minus_mean(values):
    """Each value less the mean of all; exactly 0 where all are equal."""
    values = [const(v) for v in values]
    if values and not any(v.requires_grad for v in values) and len({v.item() for v in values}) == 1:
        return [ZERO for _ in values]
    m = mean(values)
    return [v - m for v in values]


class Answer:
    """What a reference found: the loss, metrics, and named values per element of a level."""

    def __init__(self, table, loss, values=None, metrics=None, coupling="token", grads=None, states=None):
        self.table, self.loss = table, loss
        self.values = values or {}  # name -> (tree level or a level with a length, {element: value})
        self.states = states or {}  # name -> value after the step, {key: value} where keyed
        self.metrics = {k: float(v.detach() if torch.is_tensor(v) else v) for k, v in (metrics or {}).items()}
        self.coupling = coupling
        self.grads = grads  # columns whose gradient the loss may have; None: those it read

    def expected(self):
        """The arrays of expected.safetensors: float64, NaN where an element was dropped."""
        t = self.table
        leaves = [n for n, c in t.cache.items() if c.requires_grad]
        if self.grads is not None:
            leaves = [n for n in leaves if n in self.grads]
        for name in leaves:
            t.cache[name].grad = None
        if self.loss.requires_grad:
            self.loss.backward(retain_graph=True)
        out = {"loss": np.asarray([self.loss.item()])}
        for name in leaves:
            grad = t.cache[name].grad
            grad = torch.zeros_like(t.cache[name]) if grad is None else grad
            out["grad/" + name.split("/")[1]] = grad.numpy().copy()
        counts = {"batch": 1, "group": len(t.groups), "rollout": t.rollout_count, "token": t.token_count}
        for name, (level, values) in self.values.items():
            if not isinstance(level, str):
                size = len(level)
            else:
                size = counts.get(level) or len(t.segments[level][1])
            array = np.full(size, np.nan)
            for element, value in values.items():
                array[element] = float(value.detach() if torch.is_tensor(value) else value)
            out["value/" + name] = array
        for name, value in self.states.items():
            if isinstance(value, dict):
                out[f"state/{name}.key"] = np.asarray(sorted(value), np.int64)
                value = [value[k] for k in sorted(value)]
            out["state/" + name] = np.asarray([float(v) for v in np.ravel(value)])
        return out

    def kept(self):
        t = self.table
        return {"group": len(t.group_ids), "rollout": len(t.rollouts), "token": len(t.tokens())}
