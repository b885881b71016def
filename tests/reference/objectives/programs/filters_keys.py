"""Filters on derived levels, keys under filters, state and metrics that read keys."""

from .common import *


@rebuildable
def answers(seed, **kw):
    b = small(seed, **{"groups": (5, 1, 4, 2), **kw})
    return b.put("rollout/correct", np.random.default_rng(seed).random(len(b.rollout_size)) < 0.5, np.uint8)


@rebuildable
def tree(seed, **kw):
    b = small(seed, **{"groups": (4, 1, 4), **kw})
    rng = np.random.default_rng(seed)
    return b.put("token/action", rng.choice(3, sum(b.rollout_size), p=[0.7, 0.2, 0.1]), np.int64)


@rebuildable
def with_state(seed, **kw):
    """Two groups of one prompt, a prompt the state does not know, and one the batch does not have."""
    b = small(seed, **{"groups": (3, 1, 4, 2), **kw})
    prompts = np.resize([50, 41, 50, 77], len(b.group_size))
    b.put("group/prompt", prompts, np.int64)
    b.put("state/rate", [0.25, 0.75, 0.6], np.float64)
    b.put("state/rate.key", [41, 50, 99], np.int64)
    return b.put("state/bar", [-0.5], np.float64)


@rebuildable
def masked_group(seed, **kw):
    b = tree(seed, **{"groups": (3, 2, 1, 2), **kw})
    first, last = b.group_size[0], sum(b.group_size[:2])
    start, end = sum(b.rollout_size[:first]), sum(b.rollout_size[:last])
    if "token/mask" in b.columns:
        b.columns["token/mask"][start:end] = 0
    return b


@program("keep_cells", """
extend nothing
keep token where mask
key cell = (group, position)
# The condition sees the whole table: cells of masked tokens too. The loss sees what both filters left.
keep cell where count(token per cell) > 1
spread = std(old_logp per cell)
loss   = mean(mean(logp per cell) ^ 2) + mean(spread @ token * logp)
minimize loss
metric cells  = count(cell)
metric tokens = count(token)
""", small(600, groups=(4, 1, 3)))
def _(table, p):
    mask, whole = table.ints("token/mask"), cells(table)
    t = table.keep_tokens(lambda i: mask[i] and len(whole.members[whole.of[i]]) > 1)
    lp, old, cell = t.col("token/logp"), t.col("token/old_logp"), cells(t)
    spread = cell.each(lambda mine: deviation([old[i] for i in mine]))
    loss = (mean(mean(lp[i] for i in mine) ** 2 for mine in cell.members)
            + mean(spread[cell.of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(spread=(cell, spread)), dict(cells=len(cell), tokens=len(t.tokens())), "group")


@program("drop_runs", """
extend nothing
key calm = runs(old_logp > -1.2 in rollout)
# Long runs go; tokens that stand in no run stay. A run keeps its place though its neighbours are gone.
drop calm where count(token per calm) > 2
keep token where mask
short = mean(logp per calm)
after = next(logp, 0 in rollout)
loss  = mean(mean(short per rollout) ^ 2) + mean(logp * after) / 10 - 0.1 * mean(logp)
minimize loss
metric runs   = count(calm)
metric tokens = count(token)
""", small(601, groups=(3, 1, 3), max_len=9))
def _(table, p):
    old, mask = table.col("token/old_logp"), table.ints("token/mask")
    whole = runs(table, lambda i: old[i] > -1.2)
    long = {i for mine in whole.members if len(mine) > 2 for i in mine}
    t = table.keep_tokens(lambda i: mask[i] and i not in long)
    lp, calm = t.col("token/logp"), runs(t, lambda i: old[i] > -1.2)
    short = calm.each(lambda mine: mean(lp[i] for i in mine))
    inner, products = calm.under(lambda i: t.rollout_of[i]), []
    for r in t.rollouts:
        order = t.tokens(r)
        products += [lp[i] * (lp[order[k + 1]] if k + 1 < len(order) else ZERO) for k, i in enumerate(order)]
    loss = (mean(mean(short[c] for c in inner.get(r, [])) ** 2 for r in t.rollouts) + mean(products) / 10
            - 0.1 * mean(lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(short=(calm, short)), dict(runs=len(calm), tokens=len(t.tokens())), "rollout")


@program("keep_sets_of_rollouts", """
# Dropping an element of a key over rollouts drops the rollouts.
key half = (group, correct)
keep half where count(rollout per half) > 1 or not any(correct per half)
metric halves = count(half)
""", answers(602))
def _(table, p):
    run = Run(table, GRPO)
    t, right = run.t, table.ints("rollout/correct")
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    run.t = t.keep_rollouts(lambda r: len(half.members[half.of[r]]) > 1 or not right[r])
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    answer.metrics["halves"] = len({(t.group_of[r], right[r]) for r in run.t.rollouts})
    return answer


@program("keep_sets_of_turns", """
extend nothing
keep token where mask
key stage = (group, index(turn in rollout))
# The condition numbers all turns; the loss numbers those that are left.
drop stage where mean(step_reward per stage) < -0.2
loss = mean(mean(logp per turn) * step_reward) + 0.1 * mean(index(turn in rollout) * logp) + mean(exp(mean(logp per stage)))
minimize loss
metric turns  = count(turn)
metric stages = count(stage)
""", small(603, groups=(4, 1, 3), max_len=9))
def _(table, p):
    steps, number, group = table.col("turn/step_reward"), {}, {}
    for r in table.rollouts:
        for k, e in enumerate(table.elements(r)):
            number[e], group[e] = k, table.group_of[r]
    whole = Key(turns(table), lambda e: (group[e], number[e]))
    gone = {e for mine in whole.members if mean(steps[x] for x in mine) < -0.2 for e in mine}
    turn = table.element_of()
    t = table.masked().keep_tokens(lambda i: turn[i] not in gone)
    lp, left, place = t.col("token/logp"), {}, {}
    for r in t.rollouts:
        left[r] = [e for e in t.elements(r) if e not in gone]
        place.update({e: k for k, e in enumerate(left[r])})
    every = [e for r in t.rollouts for e in left[r]]
    stage = Key(every, lambda e: (group[e], place[e]))
    loss = (mean(mean(lp[i] for i in t.tokens_in(e)) * steps[e] for e in every)
            + 0.1 * mean(place[turn[i]] * lp[i] for i in t.tokens())
            + mean(torch.exp(mean(lp[i] for e in mine for i in t.tokens_in(e))) for mine in stage.members))
    return Answer(t, loss, {}, dict(turns=len(every), stages=len(stage)), "group")


@program("keys_under_filters", """
extend "crowd.rl"
# The extended file's condition saw cells of all tokens; this one sees those that its filters left.
keep cell where count(token per cell) > 1
advantage = reward @ token - mean(reward @ token per cell)
metric cells = count(cell)
""", small(604, groups=(5, 1, 4)), files={"crowd.rl": """extend grpo
key cell = (group, position)
drop token where mean(old_logp per cell) < -1.4
"""})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    cell = cells(t)
    low = cell.each(lambda mine: bool(mean(run.old[i] for i in mine) < -1.4))
    t = t.keep_tokens(lambda i: not low[cell.of[i]])
    cell = cells(t)
    t = t.keep_tokens(lambda i: len(cell.members[cell.of[i]]) > 1)
    run.t, cell, reward, adv = t, cells(t), t.col("rollout/reward"), {}
    for mine in cell.members:
        adv.update(zip(mine, minus_mean([reward[t.rollout_of[i]] for i in mine])))
    answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), seq_mean, level="token")
    answer.metrics["cells"] = len(cell)
    return answer


@program("prefix_filtered", """
extend nothing
keep token where mask
drop rollout where truncated
key node = prefix(action in group)
# Only where rollouts still share their way; the way itself is that of all tokens.
keep node where count(token per node) > 1
loss = mean(exp(mean(logp * reward per node))) + 0.1 * mean(mean(logp per rollout))
minimize loss
metric nodes = count(node)
""", tree(605))
def _(table, p):
    cut, mask, action = table.ints("rollout/truncated"), table.ints("token/mask"), table.ints("token/action")
    whole = prefixes(table, action)
    t = table.keep_tokens(lambda i: mask[i] and len(whole.members[whole.of[i]]) > 1).keep_rollouts(lambda r: not cut[r])
    lp, reward, node = t.col("token/logp"), t.col("rollout/reward"), prefixes(t, action)
    loss = (mean(torch.exp(mean(lp[i] * reward[t.rollout_of[i]] for i in mine)) for mine in node.members)
            + 0.1 * mean(mean(lp[i] for i in t.tokens(r)) for r in t.rollouts))
    return Answer(t, loss, {}, dict(nodes=len(node)), "group")


@program("state_from_keys", """
extend nothing
keep token where mask
key half = (group, correct)
key cell = (group, position)
# Updates read the batch through keys; the loss reads what was before it.
state rate[prompt] : real @ group = 0.5
state bar = 0.0
update rate = 0.8 * rate + 0.2 * mean(mean(reward per half) per group)
update bar  = 0.9 * bar + 0.1 * mean(mean(old_logp per cell))
loss = mean((reward - rate) * mean(logp per rollout)) + mean(mean(logp per cell) * (mean(old_logp per cell) - bar))
minimize loss
metric bar = bar
""", with_state(606))
def _(table, p):
    t = table.masked()
    lp, old, reward, right, cell = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward"), t.ints("rollout/correct"), cells(t)
    prompt, known = t.ints("group/prompt"), {41: 0.25, 50: 0.75, 99: 0.6}
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    inner, updates = half.under(lambda r: t.group_of[r]), {}
    for g in t.group_ids:
        fresh = mean(mean(reward[r] for r in half.members[h]) for h in inner[g])
        updates.setdefault(prompt[g], []).append(0.8 * known.get(prompt[g], 0.5) + 0.2 * fresh)
    bar = 0.9 * -0.5 + 0.1 * mean(mean(old[i] for i in mine) for mine in cell.members)
    rate = {**known, **{k: mean(v) for k, v in updates.items()}}
    loss = (mean((reward[r] - known.get(prompt[t.group_of[r]], 0.5)) * mean(lp[i] for i in t.tokens(r)) for r in t.rollouts)
            + mean(mean(lp[i] for i in mine) * (mean(old[i] for i in mine) + 0.5) for mine in cell.members))
    return Answer(t, loss, {}, dict(bar=-0.5), states=dict(rate=rate, bar=bar))


@program("metrics_over_keys", """
key cell = (group, position)
key half = (group, correct)
key calm = runs(old_logp > -1 in rollout)
key duel = pairs(rollout in group)
# Metrics read live values of the whole table, and neither couple nor depend on the cut.
metric cell_spread = mean(std(logp per cell))
metric half_gap    = mean(max(mean(ratio per half) per group) - min(mean(ratio per half) per group))
metric run_length  = mean(count(token per calm))
metric upsets      = mean(left(mean(logp per rollout) in duel) > right(mean(logp per rollout) in duel)
  where left(reward in duel) < right(reward in duel))
metric crowded     = real(max(count(token per cell)))
""", small(607, groups=(4, 1, 3)))
def _(table, p):
    run = Run(table, GRPO)
    t, right, reward = run.t, table.ints("rollout/correct"), table.col("rollout/reward")
    answer = ppo_tokens(run, GRPO, grpo_advantage(t), run.token_ratios(), seq_mean)
    lp, cell, calm = run.logp.detach(), cells(t), runs(t, lambda i: run.old[i] > -1)
    ratio, half = answer.values["ratio"][1], Key(t.rollouts, lambda r: (t.group_of[r], right[r]))
    sides = half.each(lambda mine: mean(ratio[i].detach() for r in mine for i in t.tokens(r)))
    inner = half.under(lambda r: t.group_of[r])
    score = {r: mean(lp[i] for i in t.tokens(r)) for r in t.rollouts}
    upsets = [float(score[a] > score[b]) for a, b in Pairs(t).pairs if reward[a] < reward[b]]
    answer.metrics.update(
        cell_spread=float(mean(deviation([lp[i] for i in mine]) for mine in cell.members)),
        half_gap=float(mean(max(sides[h] for h in inner[g]) - min(sides[h] for h in inner[g]) for g in t.group_ids)),
        run_length=sum(map(len, calm.members)) / max(len(calm), 1),
        upsets=sum(upsets) / max(len(upsets), 1),
        crowded=float(max(map(len, cell.members), default=0)))
    return answer


@program("all_masked_with_keys", """
extend nothing
keep token where mask
key cell = (group, position)
key calm = runs(old_logp > -2 in rollout)
key node = prefix(action in group)
key duel = pairs(rollout in group)
# A group without a kept token has no cells, runs or nodes, but still its rollouts and their pairs.
loss = mean(mean(logp per cell) ^ 2) + mean(mean(mean(logp per calm) per rollout)) + mean(mean(mean(logp per node) per group))
        + 0.1 * mean(mean(left(mean(logp per rollout) in duel) per duel.left))
minimize loss
metric cells = mean(count(cell per group))
metric runs  = mean(count(calm per rollout))
metric nodes = mean(count(node per group))
metric duels = mean(count(duel per group))
""", masked_group(608))
def _(table, p):
    t = table.masked()
    lp, old, cell, node = t.col("token/logp"), t.col("token/old_logp"), cells(t), prefixes(t, t.ints("token/action"))
    calm, duel = runs(t, lambda i: old[i] > -2), Pairs(t)
    in_rollout, in_group = calm.under(lambda i: t.rollout_of[i]), node.under(group_of(t))
    score = {r: mean(lp[i] for i in t.tokens(r)) for r in t.rollouts}
    lead = {r: score[r] if duel.of_left(r) else ZERO for r in t.rollouts}
    loss = (mean(mean(lp[i] for i in mine) ** 2 for mine in cell.members)
            + mean(mean(mean(lp[i] for i in calm.members[c]) for c in in_rollout.get(r, [])) for r in t.rollouts)
            + mean(mean(mean(lp[i] for i in node.members[n]) for n in in_group.get(g, [])) for g in t.group_ids)
            + 0.1 * mean(lead.values()))
    metrics = dict(cells=len(cell) / len(t.groups), runs=len(calm) / len(t.rollouts), nodes=len(node) / len(t.groups),
                   duels=len(duel) / len(t.groups))
    return Answer(t, loss, {}, metrics, "group")
