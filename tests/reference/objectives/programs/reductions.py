"""Reductions: `where`, `per`, ties, empty sets, defaults."""

from .common import *

@program("reductions_where", """
extend nothing
keep token where mask
good = mean(logp where token_reward > 0 per rollout)
bad  = mean(logp where not (token_reward > 0) per rollout)
# A condition at a coarser level than the elements.
won  = sum(logp where correct per group)
loss = mean(good) - 0.5 * mean(bad where count(token per rollout) > 1) + 0.01 * mean(won)
minimize loss
""", small(140))
def _(table, p):
    t = table.masked()
    lp, paid, correct = t.col("token/logp"), t.col("token/token_reward"), t.ints("rollout/correct")
    good = {r: mean(lp[i] for i in t.tokens(r) if paid[i] > 0) for r in t.rollouts}
    bad = {r: mean(lp[i] for i in t.tokens(r) if not paid[i] > 0) for r in t.rollouts}
    won = {g: total(lp[i] for r in rs if correct[r] for i in t.tokens(r)) for g, rs in enumerate(t.groups)}
    longer = [bad[r] for r in t.rollouts if len(t.tokens(r)) > 1]
    loss = mean(good.values()) - 0.5 * mean(longer) + 0.01 * mean(won.values())
    return Answer(t, loss, dict(good=("rollout", good), bad=("rollout", bad), won=("group", won)))


@program("reductions_live", """
extend nothing
keep token where mask
peak   = max(logp per rollout)
trough = min(logp per turn)
wide   = var(logp per rollout)
narrow = std(logp, ddof = 0 per turn)
apart  = std(logp per group)
loss = mean(peak) + 2 * mean(trough) + mean(wide) - mean(narrow) + 0.1 * mean(apart)
minimize loss
""", small(141, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")
    peak, wide, trough, narrow = {}, {}, {}, {}
    for r in t.rollouts:
        mine = [lp[i] for i in t.tokens(r)]
        peak[r] = max(mine, key=lambda v: v.item()) if mine else ZERO
        wide[r] = variance(mine)
        for s in t.elements(r):
            part = [lp[i] for i in t.tokens_in(s)]
            trough[s] = min(part, key=lambda v: v.item()) if part else ZERO
            narrow[s] = deviation(part, ddof=0)
    apart = {g: deviation([lp[i] for r in rs for i in t.tokens(r)]) for g, rs in enumerate(t.groups)}
    loss = (mean(peak.values()) + 2 * mean(trough.values()) + mean(wide.values()) - mean(narrow.values())
            + 0.1 * mean(apart.values()))
    return Answer(t, loss, dict(peak=("rollout", peak), wide=("rollout", wide), trough=("turn", trough),
                                narrow=("turn", narrow), apart=("group", apart)), coupling="group")


@rebuildable
def with_pivot(seed, **kw):
    """A column that equals logp at one token of rollout 0 and at two of a later one."""
    b = small(seed, **{**kw, "groups": (3, 3), "mask": False, "one_token": False})
    lp = b.columns["token/logp"]
    pivot = lp - 1.5
    starts = np.concatenate([[0], np.cumsum(b.rollout_size)])
    for i in (starts[0], starts[4], starts[4] + 1):
        pivot[i] = lp[i]
    return b.put("token/pivot", pivot)


@program("reductions_product", """
extend nothing
input pivot : real @ token
start  = first(logp per rollout)
finish = last(logp per turn)
# One factor of 0 leaves the gradient of that factor, two leave none.
factor = prod((logp - pivot) per rollout)
odds   = prod(1 - exp(logp) per turn)
loss = mean(start) + 0.5 * mean(finish) + mean(factor) + mean(odds)
minimize loss
""", with_pivot(142))
def _(table, p):
    t = table
    lp, pivot = t.col("token/logp"), t.col("token/pivot")
    start = {r: lp[t.tokens(r)[0]] for r in t.rollouts}
    turns = [(s, t.tokens_in(s)) for r in t.rollouts for s in t.elements(r)]
    finish = {s: lp[mine[-1]] if mine else ZERO for s, mine in turns}

    def product(values):
        out = const(1.0)
        for v in values:
            out = out * v
        return out

    factor = {r: product(lp[i] - pivot[i] for i in t.tokens(r)) for r in t.rollouts}
    odds = {s: product(1 - torch.exp(lp[i]) for i in t.tokens_in(s)) for r in t.rollouts for s in t.elements(r)}
    loss = mean(start.values()) + 0.5 * mean(finish.values()) + mean(factor.values()) + mean(odds.values())
    return Answer(t, loss, dict(start=("rollout", start), finish=("turn", finish), factor=("rollout", factor),
                                odds=("turn", odds)), coupling="rollout")


@program("quantiles", """
extend nothing
param share = 0.3
keep token where mask
low  = quantile(logp, share per rollout)
mid  = quantile(old_logp, 0.5 per group)
loss = mean(low) + mean(logp where old_logp > mid) + 0.1 * quantile(logp, 0.9)
minimize loss
metric top = quantile(reward, 1.0)
""", small(143), settings={"share": 0.4})
def _(table, p):
    t = table.masked()
    lp, old, reward = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward")
    low = {r: quantile([lp[i] for i in t.tokens(r)], 0.4) for r in t.rollouts}
    mid = {g: quantile([old[i] for r in rs for i in t.tokens(r)], 0.5) for g, rs in enumerate(t.groups)}
    upper = [lp[i] for i in t.tokens() if old[i] > mid[t.group_of[t.rollout_of[i]]]]
    loss = mean(low.values()) + mean(upper) + 0.1 * quantile([lp[i] for i in t.tokens()], 0.9)
    return Answer(t, loss, dict(low=("rollout", low), mid=("group", mid)),
                  {"top": max(reward[r].item() for r in t.rollouts)}, "batch")


@program("logsumexps", """
extend nothing
keep token where mask
# Of nothing -inf, which exp and the branch not taken turn into 0.
energy = logsumexp(2 * logp per rollout)
safe   = if count(token per rollout) > 0 then energy else 0
low    = logsumexp(if token_reward > 0 then logp else -inf per rollout)
loss   = mean(safe) + mean(exp(logsumexp(logp where token_reward > 0 per turn))) + mean(if low > -inf then low else 0)
minimize loss
""", small(144, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    safe = {r: torch.log(total(torch.exp(2 * lp[i]) for i in t.tokens(r))) if t.tokens(r) else ZERO for r in t.rollouts}
    parts = []
    for r in t.rollouts:
        for s in t.elements(r):
            parts.append(total(torch.exp(lp[i]) for i in t.tokens_in(s) if paid[i] > 0))
    low = []
    for r in t.rollouts:
        some = [torch.exp(lp[i]) for i in t.tokens(r) if paid[i] > 0]
        low.append(torch.log(total(some)) if some else ZERO)
    return Answer(t, mean(safe.values()) + mean(parts) + mean(low), dict(safe=("rollout", safe)), coupling="rollout")


@rebuildable
def quarters(seed, **kw):
    """Columns on a grid of 1/4, so that ties are exact in every precision."""
    b = small(seed, **{"groups": (3, 2, 2), **kw, "mask": False})
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    b.put("token/logp", -rng.integers(1, 6, n) / 4)
    b.put("token/other", -rng.integers(1, 6, n) / 4)
    # All equal in the last but one rollout.
    start = int(np.sum(b.rollout_size[:-2]))  # 0 with fewer than three rollouts
    b.columns["token/logp"][start : start + b.rollout_size[-2:][0]] = -0.75
    return b


@program("ties", """
extend nothing
input other : real @ token
gap  = logp - other
top  = max(logp per rollout)
low  = min(logp per rollout)
loss = mean(top) - 0.5 * mean(low) + mean(max(logp, other)) + 0.25 * mean(min(logp, other))
       + 2 * mean(clip(logp, -1, -0.5)) + mean(abs(gap)) + mean(relu(gap)) + mean(sqrt(relu(gap)))
       + mean(sign(gap)) + mean(gap ^ 2 - gap ^ 3) + mean(std(logp per rollout)) + 0.1 * mean(max(logp, other, -0.75))
minimize loss
""", quarters(145))
def _(table, p):
    t = table
    lp, other = t.col("token/logp"), t.col("token/other")

    def extreme(values, pick):
        best = pick(v.item() for v in values)
        return mean(v for v in values if v.item() == best)  # a tie shares the gradient equally

    def root(x):
        return torch.sqrt(x) if x.item() > 0 else ZERO

    top = {r: extreme([lp[i] for i in t.tokens(r)], max) for r in t.rollouts}
    low = {r: extreme([lp[i] for i in t.tokens(r)], min) for r in t.rollouts}
    terms = []
    for i in t.tokens():
        gap = lp[i] - other[i]
        side = (gap > 0).double() - (gap < 0).double()
        clip_grad = lp[i] if -1 <= lp[i].item() <= -0.5 else const(min(max(lp[i].item(), -1), -0.5))
        pair = [lp[i], other[i]]
        three = pair + [const(-0.75)]
        terms.append(
            extreme(pair, max) + 0.25 * extreme(pair, min) + 2 * clip_grad + side * gap
            + (gap if gap > 0 else ZERO) + root(gap if gap > 0 else ZERO) + side
            + gap * gap - gap * gap * gap
            + 0.1 * extreme(three, max)
        )
    spreads = [deviation([lp[i] for i in t.tokens(r)]) for r in t.rollouts]
    loss = mean(top.values()) - 0.5 * mean(low.values()) + mean(terms) + mean(spreads)
    return Answer(t, loss, dict(top=("rollout", top), low=("rollout", low)), coupling="rollout")


@rebuildable
def with_heads(seed, **kw):
    """Three heads of two values, so that two or all three of them are equal."""
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    for k in (1, 2, 3):
        b.put(f"token/head.{k}", -rng.integers(1, 3, n) / 4, policy=True)
    return b


@program("ties_of_members", """
extend nothing
policy head[3] : real @ token
keep token where mask
most  = max(head[k] for k in 1..3)
least = min(-k * 0 + head[k] for k in 1..3)
loss  = mean(logp * most) - 0.5 * mean(least) + mean(max(head[1], head[2], head[3]) ^ 2)
minimize loss
""", with_heads(149))
def _(table, p):
    t = table.masked()
    lp, heads = t.col("token/logp"), [t.col(f"token/head.{k}") for k in (1, 2, 3)]

    def extreme(i, pick):
        values = [h[i] for h in heads]
        best = pick(v.item() for v in values)
        return mean(v for v in values if v.item() == best)  # a tie shares the gradient equally

    most = {i: extreme(i, max) for i in t.tokens()}
    least = {i: extreme(i, min) for i in t.tokens()}
    loss = (mean(lp[i] * most[i] for i in t.tokens()) - 0.5 * mean(least.values())
            + mean(most[i] ** 2 for i in t.tokens()))
    return Answer(t, loss, dict(most=("token", most), least=("token", least)))


@program("reduction_defaults", """
extend nothing
keep token where mask
best  = max(token_reward, default = -1 where token_reward > 0.5 per rollout)
worst = min(token_reward, default = 2 where token_reward < -0.5 per rollout)
peak  = max(logp, default = 5 where token_reward > 0 per rollout)
loss  = mean((best + worst) @ token * logp) + mean(peak)
minimize loss
""", small(146))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    best = {r: max((paid[i] for i in t.tokens(r) if paid[i] > 0.5), default=const(-1)) for r in t.rollouts}
    worst = {r: min((paid[i] for i in t.tokens(r) if paid[i] < -0.5), default=const(2)) for r in t.rollouts}
    peak = {r: max((lp[i] for i in t.tokens(r) if paid[i] > 0), default=const(5)) for r in t.rollouts}
    first = mean((best[t.rollout_of[i]] + worst[t.rollout_of[i]]) * lp[i] for i in t.tokens())
    return Answer(t, first + mean(peak.values()),
                  dict(best=("rollout", best), worst=("rollout", worst), peak=("rollout", peak)), coupling="rollout")


@program("truth_values", """
extend nothing
keep token where mask
drop rollout where truncated and correct
share  = mean(correct per group)
solved = count(correct per group)
size   = count(rollout per group)
some   = any(correct per group)
every  = all(correct per group)
long   = count(token per rollout) >= 2
weight = share + real(solved) / 4 + (if some then 1 else 0) + (if every then 2 else 0) + sum(correct per group)
loss   = mean((weight + int(correct) + real(long)) @ token * logp)
minimize loss
metric share_long = mean(long)
metric not_equal  = mean(correct != long)
""", small(147, groups=(2, 1, 3, 2, 1)))
def _(table, p):
    t = table.masked()
    lp, correct, cut = t.col("token/logp"), t.ints("rollout/correct"), t.ints("rollout/truncated")
    t = t.keep_rollouts(lambda r: not (cut[r] and correct[r]))
    share, solved, size, some, every, weight = {}, {}, {}, {}, {}, {}
    for g, rs in enumerate(t.live_groups):
        won = sum(correct[r] for r in rs)
        share[g] = won / len(rs) if rs else 0
        solved[g], size[g] = won, len(rs)
        some[g], every[g] = won > 0, won == len(rs)
        weight[g] = share[g] + won / 4 + some[g] + 2 * every[g] + won
    long = {r: len(t.tokens(r)) >= 2 for r in t.rollouts}
    terms = []
    for i in t.tokens():
        r = t.rollout_of[i]
        terms.append((weight[t.group_of[r]] + correct[r] + long[r]) * lp[i])
    return Answer(
        t, mean(terms),
        dict(share=("group", share), solved=("group", solved), size=("group", size), some=("group", some),
             every=("group", every), weight=("group", weight)),
        dict(share_long=mean(const(v) for v in long.values()),
             not_equal=mean(const(bool(correct[r]) != long[r]) for r in t.rollouts)),
    )


@program("broadcast_before_mean", """
extend nothing
by_rollout = mean(reward per group)
by_token   = mean(reward @ token per group)
loss = mean((reward - by_rollout) @ token * logp) + mean((reward - by_token) @ token * logp ^ 2)
minimize loss
""", small(148, mask=False))
def _(table, p):
    t = table
    lp, reward = t.col("token/logp"), t.col("rollout/reward")
    plain = {g: mean(reward[r] for r in rs) for g, rs in enumerate(t.groups)}
    weighted_ = {g: mean(reward[r] for r in rs for _ in t.tokens(r)) for g, rs in enumerate(t.groups)}
    terms = []
    for i in t.tokens():
        r = t.rollout_of[i]
        g = t.group_of[r]
        terms.append((reward[r] - plain[g]) * lp[i] + (reward[r] - weighted_[g]) * lp[i] ** 2)
    return Answer(t, mean(terms), dict(by_rollout=("group", plain), by_token=("group", weighted_)))


@program("means_of_means", """
loss = mean(mean(mean(token_loss per rollout) per group))
""", small(149, groups=(4, 1, 2)))
def _(table, p):
    run = Run(table, GRPO)

    def reduce(t, losses):
        return mean(mean(mean(losses[i] for i in t.tokens(r)) for r in rs) for rs in t.live_groups)

    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), reduce)


@program("turn_statistics", """
extend nothing
keep token where mask
turns  = count(turn per rollout)
best   = max(step_correct per group)
last_q = last(step_correct per rollout)
weight = (step_correct - mean(step_correct per rollout)) * real(turns) + best - last_q + quantile(step_reward, 0.25 per group)
loss   = mean(weight * logp)
minimize loss
metric turns = mean(turns)
""", small(150, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, q, paid = t.col("token/logp"), t.col("turn/step_correct"), t.col("turn/step_reward")
    weight, counts = {}, []
    for rs in t.live_groups:
        mine = [e for r in rs for e in t.elements(r)]
        best, low = max(q[e] for e in mine), quantile([paid[e] for e in mine], 0.25)
        for r in rs:
            order = t.elements(r)
            counts.append(const(len(order)))
            m = mean(q[e] for e in order)
            for e in order:
                weight[e] = (q[e] - m) * len(order) + best - q[order[-1]] + low
    turn = t.element_of()
    return Answer(t, mean(weight[turn[i]] * lp[i] for i in t.tokens()), dict(weight=("turn", weight)),
                  {"turns": mean(counts)})
