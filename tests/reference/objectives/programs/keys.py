"""Derived levels made of tuples: cells of a group, sets of rollouts and turns, keys of keys."""

from .common import *


def per_group(t, key, values):
    """mean(values per group), every group counted: one without elements has 0."""
    inner = key.under(group_of(t))
    return {g: mean(values[c] for c in inner.get(g, [])) for g in t.group_ids}


@program("key_cells", """
extend nothing
keep token where mask
key cell = (group, position)
middle = mean(logp per cell)
above  = old_logp - mean(old_logp per cell)
loss   = mean(mean(exp(middle) per group)) + 0.1 * mean(above * logp)
minimize loss
""", small(300))
def _(table, p):
    t = table.masked()
    lp, old, cell = t.col("token/logp"), t.col("token/old_logp"), cells(t)
    middle = cell.each(lambda mine: mean(lp[i] for i in mine))
    above = {}
    for mine in cell.members:
        above.update(zip(mine, minus_mean([old[i] for i in mine])))
    first = per_group(t, cell, {c: torch.exp(v) for c, v in middle.items()})
    loss = mean(first.values()) + 0.1 * mean(above[i] * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(middle=(cell, middle), above=("token", above)), coupling="group")


@program("key_linear", """
extend nothing
keep token where mask
key cell = (group, position)
# Means of means of live values over recorded sets: a sum over tokens, however often it is reduced.
loss = mean(mean(mean(logp per cell) per group)) - 0.1 * mean(mean(logp * old_logp per cell))
minimize loss
""", small(301))
def _(table, p):
    t = table.masked()
    lp, old, cell = t.col("token/logp"), t.col("token/old_logp"), cells(t)
    first = per_group(t, cell, cell.each(lambda mine: mean(lp[i] for i in mine)))
    second = cell.each(lambda mine: mean(lp[i] * old[i] for i in mine))
    return Answer(t, mean(first.values()) - 0.1 * mean(second.values()))


@program("key_counts", """
extend nothing
keep token where mask
key cell = (group, position)
tokens = count(token per cell)
paid   = count(token_reward > 0 per cell)
number = count(cell per group)
alone  = count(tokens == 1 per group)
weight = real(tokens) + 0.1 * real(paid) + 0.01 * real(number @ cell) - 0.2 * real(alone)
loss   = mean(weight * logp)
minimize loss
metric cells = count(cell)
metric most  = real(max(tokens))
""", small(302))
def _(table, p):
    t = table.masked()
    lp, paid, cell = t.col("token/logp"), t.col("token/token_reward"), cells(t)
    tokens = cell.each(len)
    hits = cell.each(lambda mine: sum(int(paid[i] > 0) for i in mine))
    inner = cell.under(group_of(t))
    number = {g: len(inner.get(g, [])) for g in t.group_ids}
    alone = {g: sum(tokens[c] == 1 for c in inner.get(g, [])) for g in t.group_ids}
    weight = {}
    for g, mine in inner.items():
        for c in mine:
            weight[c] = tokens[c] + 0.1 * hits[c] + 0.01 * number[g] - 0.2 * alone[g]
    loss = mean(weight[cell.of[i]] * lp[i] for i in t.tokens())
    values = dict(tokens=(cell, tokens), paid=(cell, hits), number=("group", number), alone=("group", alone),
                  weight=(cell, weight))
    return Answer(t, loss, values, dict(cells=len(cell), most=max(tokens.values(), default=0)))


@program("key_spreads", """
extend nothing
keep token where mask
key cell = (group, position)
wide   = std(logp per cell)
narrow = var(logp, ddof = 0 per cell)
loss   = mean(wide) + mean(narrow) - 0.1 * mean(mean(wide per group) * old_logp)
minimize loss
""", small(303, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, cell = t.col("token/logp"), t.col("token/old_logp"), cells(t)
    wide = cell.each(lambda mine: deviation([lp[i] for i in mine]))
    narrow = cell.each(lambda mine: variance([lp[i] for i in mine], 0))
    by_group, group = per_group(t, cell, wide), group_of(t)
    loss = mean(wide.values()) + mean(narrow.values()) - 0.1 * mean(by_group[group(i)] * old[i] for i in t.tokens())
    return Answer(t, loss, dict(wide=(cell, wide), narrow=(cell, narrow)), coupling="group")


@rebuildable
def tied(seed, **kw):
    """Log-probs in steps of a quarter, so that tokens of one place in a group are often equal."""
    b = small(seed, **kw)
    b.columns["token/logp"] = np.round(b.columns["token/logp"] * 2) / 2
    return b


@program("key_extremes", """
extend nothing
keep token where mask
key cell = (group, position)
# Ties share the gradient across rollouts.
high = max(logp per cell)
low  = min(logp per cell)
some = max(logp, default = -9 where token_reward > 0 per cell)
loss = mean(mean(high - 0.5 * low per group)) + 0.01 * mean(some @ token)
minimize loss
""", tied(304, groups=(5, 1, 4)))
def _(table, p):
    t = table.masked()
    lp, paid, cell = t.col("token/logp"), t.col("token/token_reward"), cells(t)
    high = cell.each(lambda mine: largest(lp[i] for i in mine))
    low = cell.each(lambda mine: -largest(-lp[i] for i in mine))
    some = cell.each(lambda mine: largest((lp[i] for i in mine if paid[i] > 0), -9))
    first = per_group(t, cell, {c: high[c] - 0.5 * low[c] for c in cell})
    loss = mean(first.values()) + 0.01 * mean(some[cell.of[i]] for i in t.tokens())
    return Answer(t, loss, dict(high=(cell, high), low=(cell, low), some=(cell, some)), coupling="group")


@program("key_logsumexp_prod", """
extend nothing
keep token where mask
key cell = (group, position)
energy = logsumexp(2 * logp per cell)
odds   = prod(1 - exp(logp) per cell)
paid   = prod(1 + token_reward where token_reward > 0 per cell)
loss   = mean(energy) + mean(odds) + 0.1 * mean(mean(paid @ token * logp per group))
minimize loss
""", small(305))
def _(table, p):
    t = table.masked()
    lp, reward, cell = t.col("token/logp"), t.col("token/token_reward"), cells(t)
    energy = cell.each(lambda mine: torch.logsumexp(torch.stack([2 * lp[i] for i in mine]), 0))
    odds = cell.each(lambda mine: product(1 - torch.exp(lp[i]) for i in mine))
    paid = cell.each(lambda mine: product(1 + reward[i] for i in mine if reward[i] > 0))
    by_group = [mean(paid[cell.of[i]] * lp[i] for r in rs for i in t.tokens(r)) for rs in t.live_groups]
    loss = mean(energy.values()) + mean(odds.values()) + 0.1 * mean(by_group)
    return Answer(t, loss, dict(energy=(cell, energy), odds=(cell, odds), paid=(cell, paid)), coupling="group")


@program("key_truth", """
extend nothing
keep token where mask
key cell = (group, position)
some  = any(token_reward > 0 per cell)
every = all(old_logp < -0.2 per cell)
weight = (if some then 2 else 1) - (if every then 0.5 else 0)
loss  = mean(weight * logp) + 0.1 * mean(logp where some and not every)
minimize loss
metric share = mean(some)
metric open  = mean(any(some and every per group))
""", small(326, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, paid, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), cells(t)
    some = cell.each(lambda mine: any(paid[i] > 0 for i in mine))
    every = cell.each(lambda mine: all(old[i] < -0.2 for i in mine))
    weight = {c: (2 if some[c] else 1) - (0.5 if every[c] else 0) for c in cell}
    chosen = [lp[i] for i in t.tokens() if some[cell.of[i]] and not every[cell.of[i]]]
    loss = mean(weight[cell.of[i]] * lp[i] for i in t.tokens()) + 0.1 * mean(chosen)
    inner = cell.under(group_of(t))
    both = [any(some[c] and every[c] for c in inner.get(g, [])) for g in t.group_ids]
    return Answer(t, loss, dict(some=(cell, some), every=(cell, every), weight=(cell, weight)),
                  dict(share=sum(some.values()) / max(len(cell), 1), open=sum(both) / max(len(both), 1)))


@program("key_first_last", """
extend nothing
keep token where mask
key cell = (group, position)
# In the order of the file: the group's first and last rollout that reach this place.
head = first(logp per cell)
tail = last(logp per cell)
good = first(old_logp where token_reward > 0 per cell)
loss = mean((head - tail) ^ 2) + 0.1 * mean(head) + mean(logp * good)
minimize loss
""", small(307, groups=(4, 1, 2)))
def _(table, p):
    t = table.masked()
    lp, old, paid, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), cells(t)
    head, tail = cell.each(lambda mine: lp[mine[0]]), cell.each(lambda mine: lp[mine[-1]])
    good = cell.each(lambda mine: next((old[i] for i in mine if paid[i] > 0), ZERO))
    loss = (mean((head[c] - tail[c]) ** 2 for c in cell) + 0.1 * mean(head.values())
            + mean(lp[i] * good[cell.of[i]] for i in t.tokens()))
    return Answer(t, loss, dict(head=(cell, head), tail=(cell, tail), good=(cell, good)), coupling="group")


@program("key_quantile", """
extend nothing
param share = 0.25
keep token where mask
key cell = (group, position)
low  = quantile(logp, share per cell)
mid  = quantile(old_logp, 0.5 per cell)
loss = mean(low) + mean(logp where old_logp > mid)
minimize loss
""", small(308, groups=(5, 1, 3)), settings={"share": 0.4})
def _(table, p):
    t = table.masked()
    lp, old, cell = t.col("token/logp"), t.col("token/old_logp"), cells(t)
    low = cell.each(lambda mine: quantile([lp[i] for i in mine], 0.4))
    mid = cell.each(lambda mine: quantile([old[i] for i in mine], 0.5))
    upper = mean(lp[i] for i in t.tokens() if old[i] > mid[cell.of[i]])
    # The weights of a quantile depend on the order of live values.
    return Answer(t, mean(low.values()) + upper, dict(low=(cell, low), mid=(cell, mid)), coupling="group")


@program("key_direct", """
extend nothing
keep token where mask
# A partition without a name, at four places of which two are the same.
above = old_logp - mean(old_logp per (group, position))
scale = std(old_logp per (group, position)) + 0.1
half  = mean(reward per (group, correct))
loss  = mean(above / scale * logp) + mean(half * mean(logp per rollout)) + mean(exp(mean(logp per (rollout, position % 2))) @ token)
minimize loss
""", small(309))
def _(table, p):
    t = table.masked()
    lp, old, reward, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward"), cells(t)
    right, place = t.ints("rollout/correct"), positions(t)
    scale = cell.each(lambda mine: deviation([old[i] for i in mine]) + 0.1)
    halves = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    half = halves.each(lambda mine: mean(reward[r] for r in mine))
    parity = Key(t.tokens(), lambda i: (t.rollout_of[i], place[i] % 2))
    above = {}
    for mine in cell.members:
        above.update(zip(mine, minus_mean([old[i] for i in mine])))
    by_parity = parity.each(lambda mine: torch.exp(mean(lp[i] for i in mine)))
    loss = (mean(above[i] / scale[cell.of[i]] * lp[i] for i in t.tokens())
            + mean(half[halves.of[r]] * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts)
            + mean(by_parity[parity.of[i]] for i in t.tokens()))
    return Answer(t, loss, dict(above=("token", above)), coupling="rollout")


@program("key_rollouts", """
extend nothing
keep token where mask
key half = (group, correct)
# Sets of rollouts: one exists when its rollouts have no kept token, too.
usual = mean(reward per half)
score = mean(mean(logp per rollout) per half)
size  = count(rollout per half)
loss  = mean(mean(exp(score) per group)) + 0.1 * mean((usual + size) * logp)
minimize loss
metric halves = count(half)
metric tokens = mean(count(token per half))
""", small(310, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, reward, right = t.col("token/logp"), t.col("rollout/reward"), t.ints("rollout/correct")
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    base = half.each(lambda mine: mean(reward[r] for r in mine))
    score = half.each(lambda mine: mean(mean(lp[i] for i in t.tokens(r)) for r in mine))
    inner = half.under(lambda r: t.group_of[r])
    first = mean(mean(torch.exp(score[h]) for h in inner[g]) for g in t.group_ids)
    second = mean((base[half.of[t.rollout_of[i]]] + len(half.members[half.of[t.rollout_of[i]]])) * lp[i]
                  for i in t.tokens())
    tokens = half.each(lambda mine: sum(len(t.tokens(r)) for r in mine))
    values = dict(usual=(half, base), score=(half, score), size=(half, half.each(len)))
    return Answer(t, first + 0.1 * second, values,
                  dict(halves=len(half), tokens=sum(tokens.values()) / len(half)), "group")


@program("key_three_parts", """
extend nothing
keep token where mask
key part = (group, correct, truncated)
key spot = (group, correct, position // 2)
share = real(count(rollout per part)) / real(count(rollout per group))
swing = std(logp per spot)
loss  = mean(share * mean(logp per rollout)) + mean(swing * share @ token)
minimize loss
metric parts = count(part)
metric spots = count(spot)
""", small(311, groups=(5, 1, 4)))
def _(table, p):
    t = table.masked()
    lp, right, cut = t.col("token/logp"), t.ints("rollout/correct"), t.ints("rollout/truncated")
    place, at = positions(t), t.rollout_of
    part = Key(t.rollouts, lambda r: (t.group_of[r], right[r], cut[r]))
    spot = Key(t.tokens(), lambda i: (t.group_of[at[i]], right[at[i]], place[i] // 2))
    share = part.each(lambda mine: len(mine) / len(t.live_groups[t.group_of[mine[0]]]))
    swing = spot.each(lambda mine: deviation([lp[i] for i in mine]))
    loss = (mean(share[part.of[r]] * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts)
            + mean(swing[spot.of[i]] * share[part.of[at[i]]] for i in t.tokens()))
    return Answer(t, loss, dict(share=(part, share), swing=(spot, swing)),
                  dict(parts=len(part), spots=len(spot)), "group")


@program("key_nested", """
extend nothing
keep token where mask
key cell = (group, position)
key fine = (group, position, correct)
# One tuple inside another, reduced from one to the other, and values of both meeting at the finer.
inner = mean(logp per fine)
outer = mean(inner per cell)
gap   = inner - outer
sides = count(fine per cell)
loss  = mean(mean(gap ^ 2 per cell)) + mean(exp(outer)) + 0.1 * mean(sides * logp)
minimize loss
""", small(312, groups=(5, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, right, cell, place = t.col("token/logp"), t.ints("rollout/correct"), cells(t), positions(t)
    group, at = group_of(t), t.rollout_of
    fine = Key(t.tokens(), lambda i: (group(i), place[i], right[at[i]]))
    inner = fine.each(lambda mine: mean(lp[i] for i in mine))
    nested = fine.under(cell.of.get)
    outer = within(nested, inner)
    gap = {f: inner[f] - outer[c] for c, mine in nested.items() for f in mine}
    sides = {c: len(mine) for c, mine in nested.items()}
    loss = (mean(mean(gap[f] ** 2 for f in nested[c]) for c in cell) + mean(torch.exp(outer[c]) for c in cell)
            + 0.1 * mean(sides[cell.of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(inner=(fine, inner), outer=(cell, outer), gap=(fine, gap), sides=(cell, sides)),
                  coupling="group")


@program("key_of_keys", """
extend nothing
keep token where mask
key half = (group, correct)
key spot = (half, position)
key cell = (group, position)
# A part that is a key: a spot lies in its half, and in the cell of its group and position.
inner  = mean(logp per spot)
halves = mean(exp(inner) per half)
loss   = mean(halves) + 0.1 * mean(mean(inner per cell) @ token * old_logp)
minimize loss
metric spots = mean(count(spot per half))
""", small(313, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, right = t.col("token/logp"), t.col("token/old_logp"), t.ints("rollout/correct")
    cell, place, group, at = cells(t), positions(t), group_of(t), t.rollout_of
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    spot = Key(t.tokens(), lambda i: (half.of[at[i]], place[i]))
    inner = spot.each(lambda mine: mean(lp[i] for i in mine))
    below = spot.under(lambda i: half.of[at[i]])
    halves = {h: mean(torch.exp(inner[s]) for s in below.get(h, [])) for h in half}
    in_cell = within(spot.under(cell.of.get), inner)
    loss = mean(halves.values()) + 0.1 * mean(in_cell[cell.of[i]] * old[i] for i in t.tokens())
    return Answer(t, loss, dict(inner=(spot, inner), halves=(half, halves)),
                  dict(spots=mean(const(len(below.get(h, []))) for h in half)), "group")
