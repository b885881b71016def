"""Runs, splits, prefix trees, and keys that the policy itself decides."""

from .common import *


def by_rollout(t, key):
    """rollout -> its elements, [] where it has none"""
    inner = key.under(lambda i: t.rollout_of[i])
    return {r: inner.get(r, []) for r in t.rollouts}


@program("runs_means", """
extend nothing
key calm = runs(old_logp > -0.9 in rollout)
# Tokens between the runs get 0 from what is per run.
pace   = mean(logp per calm)
weight = pace + 1
size   = count(token per calm)
number = count(calm per rollout)
loss   = mean(exp(pace @ token)) + 0.1 * mean(weight * old_logp) + 0.1 * mean(size * logp) + 0.1 * mean(number * mean(logp per rollout))
minimize loss
metric runs = count(calm)
""", small(400, mask=False))
def _(table, p):
    t = table
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    calm = runs(t, lambda i: old[i] > -0.9)
    pace = calm.each(lambda mine: mean(lp[i] for i in mine))
    weight = {c: v + 1 for c, v in pace.items()}
    inner = by_rollout(t, calm)
    number = {r: len(inner[r]) for r in t.rollouts}
    terms = []
    for i in t.tokens():
        c = calm.of.get(i)
        at, w, n = (ZERO, ZERO, 0) if c is None else (pace[c], weight[c], len(calm.members[c]))
        terms.append(torch.exp(at) + 0.1 * w * old[i] + 0.1 * n * lp[i])
    loss = mean(terms) + 0.1 * mean(number[r] * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts)
    values = dict(pace=(calm, pace), weight=(calm, weight), size=(calm, calm.each(len)), number=("rollout", number))
    return Answer(t, loss, values, dict(runs=len(calm)), "rollout")


@program("runs_filtered", """
extend nothing
keep token where mask
key paid = runs(token_reward == 0 in rollout)
# A run goes on over tokens that the mask takes out; one without a kept token is not there.
gain  = mean(exp(logp) per paid)
size  = count(token per paid)
share = mean(gain per rollout)
loss  = -mean(share ^ 2) + 0.1 * mean(size * logp)
minimize loss
metric runs = mean(count(paid per rollout))
""", small(403, groups=(3, 1, 3), max_len=9))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    run = runs(t, lambda i: paid[i] == 0)
    gain = run.each(lambda mine: mean(torch.exp(lp[i]) for i in mine))
    inner = by_rollout(t, run)
    share = {r: mean(gain[c] for c in mine) for r, mine in inner.items()}
    loss = (-mean(v ** 2 for v in share.values())
            + 0.1 * mean((len(run.members[run.of[i]]) if i in run.of else 0) * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(gain=(run, gain), size=(run, run.each(len)), share=("rollout", share)),
                  dict(runs=mean(const(len(m)) for m in inner.values())), "rollout")


@program("runs_truth", """
extend nothing
keep token where mask
key calm = runs(old_logp > -1.6 in rollout)
# Outside a run a condition is false once it has been brought down, so `not` there is true.
long   = count(token per calm) > 1
inside = mean(logp where long)
beyond = mean(logp where not long @ token)
short  = mean(logp where (not long) @ token)
choice = if long then logp else old_logp
loss   = inside - 0.5 * beyond + 0.25 * short + 0.1 * mean(choice * token_reward)
minimize loss
metric longs = mean(any(long per rollout))
""", small(402, groups=(3, 1, 3), max_len=9))
def _(table, p):
    t = table.masked()
    lp, old, paid = t.col("token/logp"), t.col("token/old_logp"), t.col("token/token_reward")
    calm = runs(t, lambda i: old[i] > -1.6)
    long = calm.each(lambda mine: len(mine) > 1)
    inside = [i for i in t.tokens() if i in calm.of and long[calm.of[i]]]
    short = [i for i in t.tokens() if i in calm.of and not long[calm.of[i]]]
    choice = {i: lp[i] if i in inside else old[i] for i in t.tokens()}
    loss = (mean(lp[i] for i in inside) - 0.5 * mean(lp[i] for i in t.tokens() if i not in inside)
            + 0.25 * mean(lp[i] for i in short) + 0.1 * mean(choice[i] * paid[i] for i in t.tokens()))
    some = [any(long[c] for c in mine) for mine in by_rollout(t, calm).values()]
    return Answer(t, loss, dict(long=(calm, long), choice=("token", choice)), dict(longs=sum(some) / len(some)))


@program("runs_none", """
extend nothing
keep token where mask
key never  = runs(old_logp > 5 in rollout)
key always = runs(old_logp < 5 in rollout)
loss = mean(exp(mean(logp per always))) + sum(mean(logp per never)) + mean(mean(logp per never) @ token * old_logp) - 0.1 * mean(logp)
minimize loss
metric never  = count(never)
metric always = count(always)
metric most   = real(max(count(token per never)))
""", small(403))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")
    full = [r for r in t.rollouts if t.tokens(r)]
    loss = (mean(torch.exp(mean(lp[i] for i in t.tokens(r))) for r in full) - 0.1 * mean(lp[i] for i in t.tokens()))
    # How many rollouts have a token is recorded, so this is a sum over rollouts.
    return Answer(t, loss, {}, dict(never=0, always=len(full), most=0), "rollout")


@program("splits_segments", """
# Segments begin at unlikely tokens; one ratio and one advantage for each.
extend nothing
keep token where mask
key segment = splits(old_logp < -1.2 in rollout)
ratio = exp(mean(logp - old_logp per segment))
adv   = reward - mean(reward per group)
value_of = mean(old_value per segment)
term  = clipped(ratio, adv, 0.2, 0.3)
loss  = -mean(mean(term per rollout)) + 0.1 * mean(value_of * logp)
minimize loss
metric segments = mean(count(segment per rollout))
""", small(404, max_len=9))
def _(table, p):
    t = table.masked()
    lp, old, value, reward = (t.col(n) for n in ("token/logp", "token/old_logp", "token/old_value", "rollout/reward"))
    segment = splits(t, lambda i: old[i] < -1.2)
    ratio = segment.each(lambda mine: torch.exp(mean(lp[i] - old[i] for i in mine)))
    value_of = segment.each(lambda mine: mean(value[i] for i in mine))
    adv = {}
    for rs in t.live_groups:
        adv.update(zip(rs, minus_mean([reward[r] for r in rs])))
    term = {s: clip_objective(ratio[s], adv[t.rollout_of[mine[0]]], 0.2, 0.3) for s, mine in enumerate(segment.members)}
    inner = by_rollout(t, segment)
    loss = (-mean(mean(term[s] for s in mine) for mine in inner.values())
            + 0.1 * mean(value_of[segment.of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(ratio=(segment, ratio), value_of=(segment, value_of)),
                  dict(segments=mean(const(len(m)) for m in inner.values())), "rollout")


@program("splits_numbered", """
extend nothing
keep token where mask
key segment = splits(token_reward > 0 in rollout)
key stage   = (group, index(segment in rollout))
# A key whose part counts elements of another: the k-th segments of a group's rollouts.
worth = sum(token_reward per segment)
above = worth - mean(worth per stage)
loss  = mean(above * mean(logp per segment)) + 0.1 * mean(std(mean(logp per segment) per stage))
minimize loss
metric stages = mean(count(stage per group))
""", small(405, groups=(4, 1, 3), max_len=9))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    segment = splits(t, lambda i: paid[i] > 0)
    worth = segment.each(lambda mine: total(paid[i] for i in mine))
    words = segment.each(lambda mine: mean(lp[i] for i in mine))
    place, group = {}, {}
    for r, mine in by_rollout(t, segment).items():
        for k, s in enumerate(mine):
            place[s], group[s] = k, t.group_of[r]
    stage = Key(segment, lambda s: (group[s], place[s]))
    above = {}
    for mine in stage.members:
        above.update(zip(mine, minus_mean([worth[s] for s in mine])))
    inner = stage.under(group.get)
    loss = (mean(above[s] * words[s] for s in segment)
            + 0.1 * mean(deviation([words[s] for s in mine]) for mine in stage.members))
    return Answer(t, loss, dict(worth=(segment, worth), above=(segment, above)),
                  dict(stages=mean(const(len(inner.get(g, []))) for g in t.group_ids)), "group")


# ---- prefix trees


@rebuildable
def tree(seed, **kw):
    """Completions that share their beginnings, and turns with a hash of what was seen."""
    b = small(seed, **{**kw, "groups": kw.get("groups", (4, 1, 4)), "empty_turns": kw.get("empty_turns", False)})
    rng = np.random.default_rng(seed)
    b.put("token/action", rng.choice(3, sum(b.rollout_size), p=[0.7, 0.2, 0.1]), np.int64)
    return b.put("turn/seen", rng.choice(2, len(b.segmentations["turn"][0]), p=[0.7, 0.3]) - 5, np.int64)


@program("prefix_nodes", """
extend nothing
keep token where mask
key node = prefix(action in group)
# Rollouts that agree on every token so far, masked ones too, are in one node.
shared = count(token per node)
odds   = mean(logp per node)
number = index(node in group)
loss   = mean(exp(odds)) + 0.1 * mean((shared + 0.1 * number) * logp) + 0.1 * mean(mean(odds ^ 2 per group))
minimize loss
metric nodes = mean(count(node per group))
""", tree(410))
def _(table, p):
    t = table.masked()
    lp, node = t.col("token/logp"), prefixes(table.masked(), table.ints("token/action"))
    odds = node.each(lambda mine: mean(lp[i] for i in mine))
    inner = node.under(group_of(t))
    number = {n: k for mine in inner.values() for k, n in enumerate(mine)}
    weight = {n: len(node.members[n]) + 0.1 * number[n] for n in node}
    loss = (mean(torch.exp(v) for v in odds.values()) + 0.1 * mean(weight[node.of[i]] * lp[i] for i in t.tokens())
            + 0.1 * mean(mean(odds[n] ** 2 for n in inner.get(g, [])) for g in t.group_ids))
    return Answer(t, loss, dict(shared=(node, node.each(len)), odds=(node, odds), number=(node, number)),
                  dict(nodes=mean(const(len(inner.get(g, []))) for g in t.group_ids)), "group")


@program("tempo", """
# The value of a prefix is the mean reward of the rollouts that begin with it.
key node  = prefix(action in group)
usual     = mean(reward per group)
after     = mean(reward @ token per node)
before    = prev(after @ token, usual in rollout)
advantage = (reward - usual + (after @ token - before)) / (std(reward per group) + 1e-4)
loss      = seq_mean(token_loss)
""", tree(411))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward, node = t.col("rollout/reward"), prefixes(t, t.ints("token/action"))
    after = node.each(lambda mine: mean(reward[t.rollout_of[i]] for i in mine))
    adv = {}
    for rs in t.live_groups:
        usual, spread = mean(reward[r] for r in rs), deviation([reward[r] for r in rs])
        for r in rs:
            before = usual
            for i in t.tokens(r):
                now = after[node.of[i]]
                adv[i] = (reward[r] - usual + now - before) / (spread + 1e-4)
                before = now
    answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), seq_mean, level="token")
    answer.values["after"] = (node, after)
    return answer


@program("prefix_of_turns", """
extend nothing
input seen : int @ turn
keep token where mask
drop rollout where truncated
key node = prefix(seen in group)
key side = (node, correct @ turn)
# A tree of turns: nodes are sets of turns, and of those the right and the wrong ones.
ret   = rcumsum(step_reward in rollout)
above = ret - mean(ret per node)
words = mean(logp per side)
loss  = mean(above * mean(logp per turn)) + mean(mean(exp(words) per node))
minimize loss
metric nodes = count(node)
metric sides = count(side)
""", tree(412, groups=(5, 1, 4), empty_turns=True))
def _(table, p):
    cut = table.ints("rollout/truncated")
    t = table.masked().keep_rollouts(lambda r: not cut[r])
    lp, steps, seen = t.col("token/logp"), t.col("turn/step_reward"), t.ints("turn/seen")
    right, path, ret, rollout = t.ints("rollout/correct"), {}, {}, {}
    for r in t.rollouts:
        order = t.elements(r)
        for k, e in enumerate(order):
            path[e] = (t.group_of[r], tuple(seen[x] for x in order[: k + 1]))
            ret[e], rollout[e] = total(steps[x] for x in order[k:]), r
    node = Key(turns(t), path.get)
    side = Key(turns(t), lambda e: (path[e], right[rollout[e]]))
    above = {}
    for mine in node.members:
        above.update(zip(mine, minus_mean([ret[e] for e in mine])))
    words = side.each(lambda mine: mean(lp[i] for e in mine for i in t.tokens_in(e)))
    nested = side.under(node.of.get)
    loss = (mean(above[e] * mean(lp[i] for i in t.tokens_in(e)) for e in turns(t))
            + mean(mean(torch.exp(words[s]) for s in nested[n]) for n in node))
    return Answer(t, loss, dict(above=("turn", above), words=(side, words)), dict(nodes=len(node), sides=len(side)), "group")


# ---- keys of live values


@program("live_runs", """
extend nothing
keep token where mask
key hot = runs(logp - old_logp > 0.05 in rollout)
# The policy decides what a run is: a rollout is needed whole, masked tokens included, but no more.
heat = mean(logp * old_logp per hot)
loss = mean(mean(heat per rollout)) + 0.1 * mean(count(token per hot) @ token * logp)
minimize loss
metric hot = count(hot)
""", small(420, spread=0.5))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    hot = runs(t, lambda i: lp[i] - old[i] > 0.05)
    heat = hot.each(lambda mine: mean(lp[i] * old[i] for i in mine))
    loss = (mean(mean(heat[c] for c in mine) for mine in by_rollout(t, hot).values())
            + 0.1 * mean((len(hot.members[hot.of[i]]) if i in hot.of else 0) * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(heat=(hot, heat)), dict(hot=len(hot)), "rollout")


@program("live_runs_counted", """
extend nothing
keep token where mask
key hot = runs(detach(logp) > old_logp in rollout)
# A mean over all runs divides by their number, which depends on every rollout.
loss = mean(mean(logp per hot))
minimize loss
""", small(421, spread=0.5))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    hot = runs(t, lambda i: lp[i] > old[i])
    heat = hot.each(lambda mine: mean(lp[i] for i in mine))
    return Answer(t, mean(heat.values()), {}, coupling="batch")


@program("live_keys", """
extend nothing
keep token where mask
key side = (group, logp > -1)
key part = (rollout, entropy > 0.8)
swing = mean(mean(logp per side) per group)
calm  = mean(mean(logp per part) per rollout)
loss  = mean(swing) + 0.5 * mean(calm)
minimize loss
metric sides = count(side)
metric parts = count(part)
""", small(422, groups=(3, 1, 4)))
def _(table, p):
    t = table.masked()
    lp, h = t.col("token/logp"), t.col("token/entropy")
    side = Key(t.tokens(), lambda i: (t.group_of[t.rollout_of[i]], bool(lp[i] > -1)))
    part = Key(t.tokens(), lambda i: (t.rollout_of[i], bool(h[i] > 0.8)))
    in_group, in_rollout = side.under(group_of(t)), by_rollout(t, part)
    swing = {g: mean(mean(lp[i] for i in side.members[s]) for s in in_group.get(g, [])) for g in t.group_ids}
    calm = {r: mean(mean(lp[i] for i in part.members[s]) for s in mine) for r, mine in in_rollout.items()}
    return Answer(t, mean(swing.values()) + 0.5 * mean(calm.values()),
                  dict(swing=("group", swing), calm=("rollout", calm)), dict(sides=len(side), parts=len(part)), "group")


@program("live_key_in_turn", """
extend nothing
keep token where mask
key part = (turn, logp < -0.8)
loss = mean(mean(mean(logp per part) per turn) * step_reward)
minimize loss
""", small(423, max_len=9, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, paid, turn = t.col("token/logp"), t.col("turn/step_reward"), t.element_of()
    part = Key(t.tokens(), lambda i: (turn[i], bool(lp[i] < -0.8)))
    inner = part.under(turn.__getitem__)
    loss = mean(mean(mean(lp[i] for i in part.members[s]) for s in inner.get(e, [])) * paid[e] for e in turns(t))
    return Answer(t, loss, coupling="turn")


@program("live_splits", """
extend nothing
keep token where mask
key segment = splits(entropy > 1.2 in rollout)
spread = std(logp per segment)
loss   = mean(sum(spread per rollout)) - 0.1 * mean(mean(logp per segment) @ token)
minimize loss
metric segments = count(segment)
""", small(424, max_len=9))
def _(table, p):
    t = table.masked()
    lp, h = t.col("token/logp"), t.col("token/entropy")
    segment = splits(t, lambda i: h[i] > 1.2)
    spread = segment.each(lambda mine: deviation([lp[i] for i in mine]))
    words = segment.each(lambda mine: mean(lp[i] for i in mine))
    loss = (mean(total(spread[s] for s in mine) for mine in by_rollout(t, segment).values())
            - 0.1 * mean(words[segment.of[i]] for i in t.tokens()))
    return Answer(t, loss, dict(spread=(segment, spread)), dict(segments=len(segment)), "rollout")
