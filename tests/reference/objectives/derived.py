"""Derived levels and rows beside the tree, for the references.

What the contract leaves open is decided here:

* Elements of a derived level stand in the order of their first kept element in the file;
  `value/<name>` has one entry per existing element, in that order.
* A tuple's elements consist of elements of its finest part. It exists while one of those is kept: a
  cell of tokens needs a kept token, a set of rollouts a kept rollout (with kept tokens or not).
* What stands in no element (tokens outside every run) gets 0, or false, from a broadcast.
* `runs`, `splits` and `prefix` are cut over the whole rollout; only then filters take tokens away.
* Pairs stand in the order of (group, left, right); both are kept rollouts.
"""


class Key:
    """Kept elements of one tree level, sorted by a label (None: in no element)."""

    def __init__(self, elements, label):
        self.members, self.of, places = [], {}, {}
        for e in elements:
            k = label(e)
            if k is None:
                continue
            if k not in places:
                places[k] = len(self.members)
                self.members.append([])
            self.of[e] = places[k]
            self.members[places[k]].append(e)

    def __len__(self):
        return len(self.members)

    def __iter__(self):
        return iter(range(len(self.members)))

    def each(self, reduce):
        """{element: reduce(its members)}"""
        return {c: reduce(mine) for c, mine in enumerate(self.members)}

    def under(self, outer):
        """{outer element: [its elements of this level]}; outer says where a member lies."""
        out = {}
        for c, mine in enumerate(self.members):
            out.setdefault(outer(mine[0]), []).append(c)
        return out


class Pairs:
    """Ordered pairs of different kept rollouts of one group."""

    def __init__(self, t):
        self.pairs = [(a, b) for rs in t.live_groups for a in rs for b in rs if a != b]

    def __len__(self):
        return len(self.pairs)

    def each(self, value):
        return {d: value(a, b) for d, (a, b) in enumerate(self.pairs)}

    def of_left(self, r):
        return [d for d, (a, _) in enumerate(self.pairs) if a == r]

    def of_right(self, r):
        return [d for d, (_, b) in enumerate(self.pairs) if b == r]


def group_of(t):
    return lambda token: t.group_of[t.rollout_of[token]]


def positions(t):
    """token -> its place among all tokens of its rollout"""
    return {i: k for ts in t.all_tokens for k, i in enumerate(ts)}


def cells(t):
    """key cell = (group, position)"""
    place, group = positions(t), group_of(t)
    return Key(t.tokens(), lambda i: (group(i), place[i]))


def turns(t):
    """All turns of the kept rollouts, emptied ones included."""
    return [e for r in t.rollouts for e in t.elements(r)]


def runs(t, condition):
    """Maximal runs of tokens of one rollout where the condition holds."""
    run, last = {}, 0
    for ts in t.all_tokens:
        inside = False
        for i in ts:
            holds = bool(condition(i))
            if holds and not inside:
                last += 1
            if holds:
                run[i] = last
            inside = holds
    return Key(t.tokens(), run.get)


def splits(t, condition):
    """A new element at every token where the condition holds, and at the rollout's first."""
    part, last = {}, 0
    for ts in t.all_tokens:
        last += 1
        for k, i in enumerate(ts):
            if k and bool(condition(i)):
                last += 1
            part[i] = last
    return Key(t.tokens(), part.get)


def prefixes(t, x):
    """Tokens of one group whose rollouts agree on x up to and including them."""
    node = {}
    for r, ts in enumerate(t.all_tokens):
        for k, i in enumerate(ts):
            node[i] = (t.group_of[r], tuple(x[j] for j in ts[: k + 1]))
    return Key(t.tokens(), node.get)


class Rows:
    """A declared level of rows, as the level of an emitted value."""

    def __init__(self, t, level):
        self.size = sum(len(mine) for mine in t.rows[level][1])

    def __len__(self):
        return self.size
