"""Ordered operators: discounted, argmax, sort, pick, and every one of them in the scope of a key.

Indices count kept elements of the scope from 0. `argmax`, `sort` and `pick` keep the level of x.
"""

from .common import *


def backwards(order, x, gamma, default=ZERO):
    """y = x + gamma * y of the next kept element"""
    out, carried = {}, default
    for e in reversed(order):
        carried = x[e] + gamma(e) * carried
        out[e] = carried
    return out


@rebuildable
def with_head(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    b.put("token/head", rng.normal(0, 1, sum(b.rollout_size)), np.float32, policy=True)
    b.put("rollout/gamma", rng.uniform(0.3, 1, len(b.rollout_size)))
    return b.put("turn/ends", rng.random(len(b.segmentations["turn"][0])) < 0.3, np.uint8)


@rebuildable
def with_jumps(seed, **kw):
    b = small(seed, **{"empty_turns": True, **kw})
    return b.put("token/far", np.random.default_rng(seed).integers(-2, 4, sum(b.rollout_size)), np.int64)


@rebuildable
def equal_rewards(seed, **kw):
    b = small(seed, **{"groups": (5, 1, 4), **kw})
    return b.put("rollout/reward", np.random.default_rng(seed).choice([0.0, 0.5, 1.0], len(b.rollout_size)))


@program("discounted_constant", """
extend nothing
param gamma = 0.9
keep token where mask
to_go = discounted(token_reward, gamma in rollout)
steps = discounted(step_reward, 0.5 in rollout)
inner = discounted(token_reward, 1 in turn)
loss  = mean((to_go + steps - 0.1 * inner) * logp)
minimize loss
""", small(500, empty_turns=True), settings={"gamma": 0.7})
def _(table, p):
    t = table.masked()
    lp, paid, steps, turn = t.col("token/logp"), t.col("token/token_reward"), t.col("turn/step_reward"), t.element_of()
    to_go, by_turn, inner = {}, {}, {}
    for r in t.rollouts:
        to_go.update(backwards(t.tokens(r), paid, lambda i: 0.7))
        by_turn.update(backwards(t.elements(r), steps, lambda e: 0.5))
        for e in t.elements(r):
            inner.update(backwards(t.tokens_in(e), paid, lambda i: 1))
    loss = mean((to_go[i] + by_turn[turn[i]] - 0.1 * inner[i]) * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(to_go=("token", to_go), steps=("turn", by_turn), inner=("token", inner)))


@program("discounted_gradient", """
extend nothing
policy head : real @ token
keep token where mask
# y = x + gamma * next y, with a gamma of each token's own; gradient to x and to gamma.
to_go = discounted(logp, sigmoid(head) in rollout)
loss  = mean(to_go ^ 2) / 10
minimize loss
""", with_head(501))
def _(table, p):
    t = table.masked()
    lp, head = t.col("token/logp"), t.col("token/head")
    to_go = {}
    for r in t.rollouts:
        to_go.update(backwards(t.tokens(r), lp, lambda i: torch.sigmoid(head[i])))
    return Answer(t, mean(v ** 2 for v in to_go.values()) / 10, dict(to_go=("token", to_go)), coupling="rollout")


@program("discounted_coarse_gamma", """
extend nothing
input gamma : real @ rollout
input ends  : bool @ turn
keep token where mask
# A factor of the rollout, one of the turn that cuts the sum off, and one that is live.
plain = discounted(token_reward, gamma in rollout)
cut   = discounted(logp, if ends then 0 else gamma in rollout)
live  = discounted(token_reward, exp(mean(logp per turn)) in rollout)
wide  = discounted(reward, 0.5 in group)
loss  = mean(plain * logp) + mean(cut ^ 2) / 10 + mean(live) + mean(wide * mean(logp per rollout))
minimize loss
""", with_head(502, max_len=8))
def _(table, p):
    t = table.masked()
    lp, paid, gamma, ends, turn = t.col("token/logp"), t.col("token/token_reward"), t.col("rollout/gamma"), t.ints("turn/ends"), t.element_of()
    reward, plain, cut, live, wide = t.col("rollout/reward"), {}, {}, {}, {}
    for rs in t.live_groups:
        wide.update(backwards(rs, reward, lambda r: 0.5))
        for r in rs:
            order = t.tokens(r)
            said = {e: torch.exp(mean(lp[i] for i in t.tokens_in(e))) for e in t.elements(r)}
            plain.update(backwards(order, paid, lambda i: gamma[r]))
            cut.update(backwards(order, lp, lambda i: 0 if ends[turn[i]] else gamma[r]))
            live.update(backwards(order, paid, lambda i: said[turn[i]]))
    tokens = t.tokens()
    loss = (mean(plain[i] * lp[i] + cut[i] ** 2 / 10 + live[i] for i in tokens)
            + mean(wide[r] * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts))
    return Answer(t, loss, dict(plain=("token", plain), cut=("token", cut), live=("token", live), wide=("rollout", wide)),
                  coupling="rollout")


@program("gae", """
# Generalised advantage estimation with gamma and lambda apart, and the critic's return.
param gamma  = 0.95
param lambda_ = 0.9
delta     = token_reward + gamma * next(old_value, 0 in rollout) - old_value
gae       = discounted(delta, gamma * lambda_ in rollout)
advantage = batch_norm(gae)
loss      = token_mean(token_loss) + 0.5 * token_mean((value - (gae + old_value)) ^ 2)
""", small(503), settings={"lambda_": 0.8})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    paid, old_v, v, gae = t.col("token/token_reward"), t.col("token/old_value"), t.col("token/value"), {}
    for r in t.rollouts:
        order = t.tokens(r)
        delta = {i: paid[i] + 0.95 * (old_v[order[k + 1]] if k + 1 < len(order) else ZERO) - old_v[i]
                 for k, i in enumerate(order)}
        gae.update(backwards(order, delta, lambda i: 0.95 * 0.8))
    tokens = t.tokens()
    spread, middle = torch.sqrt(variance(gae[i] for i in tokens) + 1e-8), mean(gae[i] for i in tokens)
    adv = {i: (gae[i] - middle) / spread for i in tokens}
    answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), token_mean, level="token")
    answer.loss = answer.loss + 0.5 * mean((v[i] - gae[i] - old_v[i]) ** 2 for i in tokens)
    answer.values["gae"] = ("token", gae)
    return answer


def first_best(order, x):
    """The place of the largest; ties to the first."""
    return max(range(len(order)), key=lambda k: (x[order[k]].item(), -k)) if order else -1


@program("argmaxes", """
extend nothing
keep token where mask
# Every element of a scope reads the place of its largest; of equal ones the first.
peak = argmax(old_logp in rollout)
flat = argmax(token_reward in turn)
won  = argmax(reward in group)
here = index(token in rollout) == peak
loss = mean(logp where here) + 0.1 * mean((flat + won) * logp)
minimize loss
metric early = mean(peak == 0)
""", small(504, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, paid, reward = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), t.col("rollout/reward")
    peak, flat, won, here = {}, {}, {}, []
    for rs in t.live_groups:
        won.update({r: first_best(rs, reward) for r in rs})
        for r in rs:
            order = t.tokens(r)
            k = first_best(order, old)
            peak.update({i: k for i in order})
            here += [lp[order[k]]] if order else []
            for e in t.elements(r):
                mine = t.tokens_in(e)
                flat.update({i: first_best(mine, paid) for i in mine})
    loss = mean(here) + 0.1 * mean((flat[i] + won[t.rollout_of[i]]) * lp[i] for i in t.tokens())
    early = sum(k == 0 for k in peak.values()) / len(peak)
    return Answer(t, loss, dict(peak=("token", peak), flat=("token", flat), won=("rollout", won)), dict(early=early))


@program("argmax_live", """
extend nothing
keep token where mask
# No gradient, but the place depends on the policy: the whole rollout is needed.
far  = argmax(logp in rollout) - index(token in rollout)
loss = mean(real(abs(far)) * logp)
minimize loss
""", small(505))
def _(table, p):
    t = table.masked()
    lp, far = t.col("token/logp"), {}
    for r in t.rollouts:
        order = t.tokens(r)
        k = first_best(order, lp)
        far.update({i: k - n for n, i in enumerate(order)})
    return Answer(t, mean(abs(far[i]) * lp[i] for i in t.tokens()), dict(far=("token", far)), coupling="rollout")


def in_order(order, x):
    return sorted(order, key=lambda e: x[e].item())


@program("sorted_values", """
extend nothing
keep token where mask
# At the j-th kept element of a scope its j-th smallest value; the gradient goes to whom it belongs.
low   = sort(logp in rollout)
ranks = sort(reward in group)
turn_ = sort(step_reward in rollout)
place = real(index(token in rollout))
loss  = mean(place * low) + 0.1 * mean(turn_ * logp) + 0.1 * mean(ranks * mean(logp per rollout))
minimize loss
""", small(506, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, reward, steps, turn = t.col("token/logp"), t.col("rollout/reward"), t.col("turn/step_reward"), t.element_of()
    low, ranks, by_turn, place = {}, {}, {}, {}
    for rs in t.live_groups:
        ranks.update({r: reward[s] for r, s in zip(rs, in_order(rs, reward))})
        for r in rs:
            order = t.tokens(r)
            low.update({i: lp[j] for i, j in zip(order, in_order(order, lp))})
            place.update({i: k for k, i in enumerate(order)})
            mine = t.elements(r)
            by_turn.update({e: steps[f] for e, f in zip(mine, in_order(mine, steps))})
    loss = (mean(place[i] * low[i] + 0.1 * by_turn[turn[i]] * lp[i] for i in t.tokens())
            + 0.1 * mean(ranks[r] * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts))
    return Answer(t, loss, dict(low=("token", low), ranks=("rollout", ranks), turn_=("turn", by_turn)), coupling="rollout")


@program("sort_whole_batch", """
extend nothing
param share = 0.4
keep token where mask
# The excess of the least certain tokens over the rest, by order statistics of the batch.
sorted = sort(entropy in batch)
place  = index(token in batch)
high   = place >= count(token) - floor(share * count(token))
loss   = mean(sorted where high) - mean(sorted where not high) - 0.1 * mean(logp)
minimize loss
""", small(507))
def _(table, p):
    t = table.masked()
    lp, h = t.col("token/logp"), t.col("token/entropy")
    order = in_order(t.tokens(), h)
    k = len(order) - math.floor(0.4 * len(order))
    loss = mean(h[i] for i in order[k:]) - mean(h[i] for i in order[:k]) - 0.1 * mean(lp[i] for i in t.tokens())
    return Answer(t, loss, coupling="batch")


@program("picks", """
extend nothing
input far : int @ token
keep token where mask
# The i-th kept element of the scope; outside 0 .. n - 1 the default, which may be live.
second = pick(logp, 1, -2 in rollout)
jump   = pick(logp, index(token in rollout) + far, logp in rollout)
ends   = pick(old_logp, count(token per turn) - 1, 0 in turn)
best   = pick(reward, argmax(reward in group), 0 in group)
turn_  = pick(step_reward, index(turn in rollout) - 1, reward in rollout)
loss   = mean((second - old_logp) ^ 2) + mean(jump * old_logp) + 0.1 * mean((ends + turn_) * logp) - 0.1 * mean(best * logp)
minimize loss
""", with_jumps(508))
def _(table, p):
    t = table.masked()
    lp, old, reward, steps = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward"), t.col("turn/step_reward")
    far, turn = t.ints("token/far"), t.element_of()
    second, jump, ends, best, by_turn = {}, {}, {}, {}, {}

    def pick(order, x, k, default):
        return x[order[k]] if 0 <= k < len(order) else default

    for rs in t.live_groups:
        for r in rs:
            best[r] = max(float(reward[s]) for s in rs)
            order, elements = t.tokens(r), t.elements(r)
            for k, i in enumerate(order):
                second[i] = pick(order, lp, 1, const(-2))
                jump[i] = pick(order, lp, k + far[i], lp[i])
            for k, e in enumerate(elements):
                by_turn[e] = pick(elements, steps, k - 1, reward[r])
                mine = t.tokens_in(e)
                ends.update({i: old[mine[-1]] for i in mine})
    loss = (mean((second[i] - old[i]) ** 2 + jump[i] * old[i] + 0.1 * (ends[i] + by_turn[turn[i]]) * lp[i]
                 - 0.1 * best[t.rollout_of[i]] * lp[i] for i in t.tokens()))
    values = dict(second=("token", second), jump=("token", jump), ends=("token", ends), best=("rollout", best),
                  turn_=("turn", by_turn))
    return Answer(t, loss, values, coupling="rollout")


@program("ranks_and_tops", """
extend nothing
keep token where mask
# Ties by order: equal rewards take ranks in the order of the file, and the earlier one is on top.
place = rank(reward in group)
best  = top(reward, 2 in group)
half  = top(token_reward, ceil(0.5 * count(token per rollout)) in rollout)
wide  = top(old_logp, 5 in batch)
none  = top(old_logp, 0 in rollout)
mid   = quantile(reward, 0.75 per group)
loss  = mean((place + mid) * logp) + mean(logp where best) - mean(logp where half) + mean(logp where wide) + mean(logp where none)
minimize loss
metric tops = mean(count(best per group))
""", equal_rewards(509))
def _(table, p):
    t = table.masked()
    lp, old, paid, reward = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), t.col("rollout/reward")
    place, mid, best, half = {}, {}, {}, {}

    def top(order, x, k):
        chosen = sorted(range(len(order)), key=lambda n: (-float(x[order[n]]), n))[:k]
        return {e: n in chosen for n, e in enumerate(order)}

    for rs in t.live_groups:
        place.update({r: k for k, r in enumerate(in_order(rs, reward))})
        best.update(top(rs, reward, 2))
        for r in rs:
            mid[r] = quantile([reward[s] for s in rs], 0.75)
            order = t.tokens(r)
            half.update(top(order, paid, math.ceil(0.5 * len(order))))
    wide, at = top(t.tokens(), old, 5), t.rollout_of
    loss = (mean((place[at[i]] + mid[at[i]]) * lp[i] for i in t.tokens()) + mean(lp[i] for i in t.tokens() if best[at[i]])
            - mean(lp[i] for i in t.tokens() if half[i]) + mean(lp[i] for i in t.tokens() if wide[i]))
    tops = mean(const(sum(best[r] for r in rs)) for rs in t.live_groups)
    return Answer(t, loss, dict(place=("rollout", place), best=("rollout", best), half=("token", half)), dict(tops=tops))


# ---- in the scope of a key


@program("ordered_in_cells", """
extend nothing
keep token where mask
key cell = (group, position)
# From one rollout of the group to the next that reaches this place.
so_far = cumsum(logp in cell)
to_go  = rcumsum(token_reward in cell)
after  = next(logp, 0.5 in cell)
before = prev(old_logp, -1 in cell)
lead   = is_first(token in cell)
number = index(token in cell)
loss   = mean(so_far * token_reward) + mean((to_go + before) * logp) + mean(after ^ 2) + 0.1 * mean(number * logp) + mean(logp where lead)
minimize loss
""", small(520, groups=(5, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, paid, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), cells(t)
    so_far, to_go, after, before, number = {}, {}, {}, {}, {}
    for mine in cell.members:
        for k, i in enumerate(mine):
            so_far[i], to_go[i] = total(lp[j] for j in mine[: k + 1]), total(paid[j] for j in mine[k:])
            after[i] = lp[mine[k + 1]] if k + 1 < len(mine) else const(0.5)
            before[i], number[i] = (old[mine[k - 1]] if k else const(-1.0)), k
    loss = (mean(so_far[i] * paid[i] + (to_go[i] + before[i]) * lp[i] + after[i] ** 2 + 0.1 * number[i] * lp[i]
                 for i in t.tokens()) + mean(lp[mine[0]] for mine in cell.members))
    values = {n: ("token", v) for n, v in dict(so_far=so_far, to_go=to_go, after=after, before=before, number=number).items()}
    return Answer(t, loss, values, coupling="group")


@program("ordered_in_cells_more", """
extend nothing
keep token where mask
key cell = (group, position)
place = rank(old_logp in cell)
top_  = top(token_reward, 1 in cell)
flow  = discounted(logp, 0.5 in cell)
low   = sort(old_logp in cell)
peak  = argmax(old_logp in cell)
turn_ = pick(logp, 1, old_logp in cell)
clean = scan_and(token_reward >= 0 in cell)
loss  = mean(flow ^ 2) / 10 + mean((place + low + 0.1 * peak) * logp) + mean(logp where top_) + mean(turn_ ^ 2) + mean(logp where clean)
minimize loss
""", small(521, groups=(5, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, paid, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward"), cells(t)
    place, flow, low, peak, second, high, clean = {}, {}, {}, {}, {}, [], []
    for mine in cell.members:
        place.update({i: k for k, i in enumerate(in_order(mine, old))})
        flow.update(backwards(mine, lp, lambda i: 0.5))
        low.update({i: old[j] for i, j in zip(mine, in_order(mine, old))})
        peak.update({i: first_best(mine, old) for i in mine})
        second.update({i: lp[mine[1]] if len(mine) > 1 else old[i] for i in mine})
        high.append(mine[first_best(mine, paid)])
        for i in mine:
            if paid[i] < 0:
                break
            clean.append(i)
    loss = (mean(flow[i] ** 2 / 10 + (place[i] + low[i] + 0.1 * peak[i]) * lp[i] + second[i] ** 2 for i in t.tokens())
            + mean(lp[i] for i in high) + mean(lp[i] for i in clean))
    values = dict(place=place, flow=flow, low=low, peak=peak, turn_=second)
    return Answer(t, loss, {n: ("token", v) for n, v in values.items()}, coupling="group")


@program("ordered_in_runs", """
extend nothing
keep token where mask
key calm = runs(old_logp > -1.6 in rollout)
# Places in a run count its kept tokens; runs themselves stand in the order of the rollout.
inside = old_logp > -1.6
place  = if inside then real(index(token in calm)) else -1
final  = inside and is_last(token in calm)
length_of = count(token per calm)
next_length = next(length_of, 0 in rollout)
grown  = cumsum(mean(logp per calm) in rollout)
loss   = mean(place * logp) + mean(logp where final) + mean(sum(grown ^ 2 per rollout)) / 10 + 0.1 * mean(next_length * logp)
minimize loss
metric first = mean(count(is_first(calm in rollout) per rollout))
""", small(522, groups=(3, 1, 3), max_len=9))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    calm = runs(t, lambda i: old[i] > -1.6)
    place, final = {i: -1 for i in t.tokens()}, [mine[-1] for mine in calm.members]
    for mine in calm.members:
        place.update({i: k for k, i in enumerate(mine)})
    inner = calm.under(lambda i: t.rollout_of[i])
    after, grown = {}, {}
    for mine in inner.values():
        for k, c in enumerate(mine):
            after[c] = len(calm.members[mine[k + 1]]) if k + 1 < len(mine) else 0
            grown[c] = total(mean(lp[i] for i in calm.members[d]) for d in mine[: k + 1])
    loss = (mean(place[i] * lp[i] for i in t.tokens()) + mean(lp[i] for i in final)
            + mean(total(grown[c] ** 2 for c in inner.get(r, [])) for r in t.rollouts) / 10
            + 0.1 * mean((after[calm.of[i]] if i in calm.of else 0) * lp[i] for i in t.tokens()))
    values = dict(place=("token", place), next_length=(calm, after), grown=(calm, grown))
    return Answer(t, loss, values, dict(first=len(inner) / len(t.rollouts)), "rollout")


@program("ordered_over_cells", """
extend nothing
keep token where mask
key cell = (group, position)
key half = (group, correct)
# Cells of a group as the elements; rollouts and turns in the scope of a set of rollouts.
crowd  = count(token per cell)
number = index(cell in group)
grown  = cumsum(crowd in group)
trend  = mean(logp per cell) - prev(mean(logp per cell), 0 in group)
place  = rank(reward in half) + 10 * index(rollout in half)
turn_  = index(turn in half)
loss   = mean(trend ^ 2) + 0.1 * mean((number + grown) * logp) + 0.01 * mean(place * logp) + 0.1 * mean(turn_ * logp)
minimize loss
metric widest = mean(argmax(crowd in group) == number)
""", small(523, groups=(5, 1, 4), empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, reward, right, cell, turn = t.col("token/logp"), t.col("rollout/reward"), t.ints("rollout/correct"), cells(t), t.element_of()
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    number, grown, trend, widest = {}, {}, {}, 0
    said = cell.each(lambda mine: mean(lp[i] for i in mine))
    for mine in cell.under(group_of(t)).values():
        sizes = [len(cell.members[c]) for c in mine]
        widest += 1
        for k, c in enumerate(mine):
            number[c], grown[c] = k, sum(sizes[: k + 1])
            trend[c] = said[c] - (said[mine[k - 1]] if k else ZERO)
    place, by_turn = {}, {}
    for mine in half.members:
        ranks = {r: k for k, r in enumerate(in_order(mine, reward))}
        place.update({r: ranks[r] + 10 * k for k, r in enumerate(mine)})
        by_turn.update({e: k for k, e in enumerate(e for r in mine for e in t.elements(r))})
    loss = mean(v ** 2 for v in trend.values()) + mean(
        (0.1 * (number[cell.of[i]] + grown[cell.of[i]]) + 0.01 * place[t.rollout_of[i]] + 0.1 * by_turn[turn[i]]) * lp[i]
        for i in t.tokens())
    values = dict(number=(cell, number), grown=(cell, grown), trend=(cell, trend), place=("rollout", place), turn_=("turn", by_turn))
    return Answer(t, loss, values, dict(widest=widest / max(len(cell), 1)), "group")
