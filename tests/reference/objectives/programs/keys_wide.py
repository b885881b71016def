"""Keys of turns, of the whole batch and inside a rollout; scopes of functions; published uses of keys."""

from .common import *


@rebuildable
def anchored(seed, **kw):
    """Turns that return to a few states, in or out of their group."""
    b = small(seed, **{**kw, "groups": kw.get("groups", (4, 1, 3)), "empty_turns": kw.get("empty_turns", True)})
    rng = np.random.default_rng(seed)
    n = len(b.segmentations["turn"][0])
    b.put("turn/anchor", rng.integers(-1, 3, n), np.int64)
    b.put("turn/invalid", rng.random(n) < 0.2, np.uint8)
    return b.put("token/kind", rng.integers(0, 3, sum(b.rollout_size)), np.int64)


@rebuildable
def repeated_prompts(seed, **kw):
    b = small(seed, **{**kw, "groups": kw.get("groups", (3, 1, 2, 2))})
    b.columns["group/prompt"] = np.arange(len(b.group_size), dtype=np.int64) % 3 + 7
    return b


@rebuildable
def formats(seed, **kw):
    b = small(seed, **{**kw, "groups": kw.get("groups", (5, 1, 4))})
    b.put("rollout/format", np.random.default_rng(seed).integers(0, 3, len(b.rollout_size)), np.int64)
    return b.put("batch/train.progress", [0.25])


@rebuildable
def with_head(seed, **kw):
    b = small(seed, **{**kw, "groups": kw.get("groups", (4, 1, 3))})
    head = np.random.default_rng(seed).normal(0, 1, sum(b.rollout_size))
    return b.put("token/head", head, np.float32, policy=True)


@program("key_in_rollout", """
extend nothing
input kind : int @ token
keep token where mask
key sort_of = (rollout, kind)
ratio = exp(mean(logp - old_logp per sort_of))
kinds = count(sort_of per rollout)
loss  = -mean(mean(ratio per rollout) * reward) + 0.01 * mean(kinds * logp)
minimize loss
""", anchored(330))
def _(table, p):
    t = table.masked()
    lp, old, reward, kind = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward"), t.ints("token/kind")
    key = Key(t.tokens(), lambda i: (t.rollout_of[i], kind[i]))
    ratio = key.each(lambda mine: torch.exp(mean(lp[i] - old[i] for i in mine)))
    inner = key.under(lambda i: t.rollout_of[i])
    kinds = {r: len(inner.get(r, [])) for r in t.rollouts}
    loss = (-mean(mean(ratio[k] for k in inner.get(r, [])) * reward[r] for r in t.rollouts)
            + 0.01 * mean(kinds[t.rollout_of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(ratio=(key, ratio), kinds=("rollout", kinds)), coupling="rollout")


@program("key_in_turn", """
extend nothing
input kind : int @ token
keep token where mask
key part = (turn, kind)
spread = std(logp per part)
loss   = mean(mean(spread per turn) + 0.1 * mean(logp per turn))
minimize loss
metric parts = count(part)
""", anchored(331, max_len=9))
def _(table, p):
    t = table.masked()
    lp, kind, turn = t.col("token/logp"), t.ints("token/kind"), t.element_of()
    part = Key(t.tokens(), lambda i: (turn[i], kind[i]))
    spread = part.each(lambda mine: deviation([lp[i] for i in mine]))
    inner = part.under(turn.__getitem__)
    loss = mean(mean(spread[k] for k in inner.get(e, [])) + 0.1 * mean(lp[i] for i in t.tokens_in(e)) for e in turns(t))
    return Answer(t, loss, dict(spread=(part, spread)), dict(parts=len(part)), "turn")


@program("key_turns", """
extend nothing
input anchor : int @ turn
keep token where mask
key state_of = (group, anchor)
# Elements are sets of turns: turns without tokens count, and tokens lie inside through their turn.
worth = mean(step_reward per state_of)
seen  = count(turn per state_of)
words = mean(logp per state_of)
loss  = mean(exp(words)) + 0.1 * mean((worth + real(seen)) * logp) + 0.1 * mean(mean(worth per group))
minimize loss
metric states = count(state_of)
""", anchored(332))
def _(table, p):
    t = table.masked()
    lp, paid, anchor, turn = t.col("token/logp"), t.col("turn/step_reward"), t.ints("turn/anchor"), t.element_of()
    rollout = {e: r for r in t.rollouts for e in t.elements(r)}
    key = Key(turns(t), lambda e: (t.group_of[rollout[e]], anchor[e]))
    worth = key.each(lambda mine: mean(paid[e] for e in mine))
    words = key.each(lambda mine: mean(lp[i] for e in mine for i in t.tokens_in(e)))
    inner = key.under(lambda e: t.group_of[rollout[e]])
    groups = mean(mean(worth[k] for k in inner.get(g, [])) for g in t.group_ids)
    own = {i: key.of[turn[i]] for i in t.tokens()}
    loss = (mean(torch.exp(v) for v in words.values()) + 0.1 * groups
            + 0.1 * mean((worth[own[i]] + len(key.members[own[i]])) * lp[i] for i in t.tokens()))
    values = dict(worth=(key, worth), words=(key, words), seen=(key, key.each(len)))
    return Answer(t, loss, values, dict(states=len(key)), "group")


@program("key_turn_number", """
extend nothing
keep token where mask
key stage = (group, index(turn in rollout))
# A part that is computed: the k-th turns of a group's rollouts.
mark  = step_reward - mean(step_reward per stage)
loss  = mean(mark * mean(logp per turn)) + mean(std(mean(logp per turn) per stage))
minimize loss
metric stages = mean(count(stage per group))
""", anchored(333, empty_turns=False))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("turn/step_reward")
    number, group = {}, {}
    for r in t.rollouts:
        for k, e in enumerate(t.elements(r)):
            number[e], group[e] = k, t.group_of[r]
    key = Key(turns(t), lambda e: (group[e], number[e]))
    words = {e: mean(lp[i] for i in t.tokens_in(e)) for e in turns(t)}
    mark = {}
    for mine in key.members:
        mark.update(zip(mine, minus_mean([paid[e] for e in mine])))
    inner = key.under(group.__getitem__)
    loss = (mean(mark[e] * words[e] for e in turns(t))
            + mean(deviation([words[e] for e in mine]) for mine in key.members))
    return Answer(t, loss, dict(mark=("turn", mark)),
                  dict(stages=mean(const(len(inner[g])) for g in t.group_ids)), "group")


@program("key_steps_of_batch", """
# Every step of the batch weighs alike: the mean over tokens of one place, then over places.
extend nothing
key step = (position,)
keep token where mask
ratio = exp(logp - old_logp)
adv   = reward - mean(reward per group)
loss  = mean(mean(-clipped(ratio, adv, 0.2, 0.2) per step))
minimize loss
metric steps = count(step)
""", small(334))
def _(table, p):
    t = table.masked()
    lp, old, reward, place = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward"), positions(t)
    step = Key(t.tokens(), place.get)
    adv = {}
    for rs in t.live_groups:
        adv.update(zip(rs, minus_mean([reward[r] for r in rs])))
    loss = mean(
        mean(-clip_objective(torch.exp(lp[i] - old[i]), adv[t.rollout_of[i]], 0.2, 0.2) for i in mine)
        for mine in step.members)
    return Answer(t, loss, dict(adv=("rollout", adv)), dict(steps=len(step)))


@program("key_couples_batch", """
extend nothing
keep token where mask
key won  = (correct,)
key same = (prompt,)
# Nothing but the batch contains these; one is a set of rollouts, the other of groups.
side  = mean(logp per won)
theme = mean(mean(mean(logp per rollout) per group) per same)
fixed = mean(reward per same)
loss  = mean(exp(side)) + mean(theme ^ 2) + 0.1 * mean(fixed * logp)
minimize loss
metric sides = count(won)
metric topics = count(same)
""", repeated_prompts(335))
def _(table, p):
    t = table.masked()
    lp, reward, right, prompt = (t.col("token/logp"), t.col("rollout/reward"), t.ints("rollout/correct"),
                                 t.ints("group/prompt"))
    won = Key(t.rollouts, lambda r: right[r])
    same = Key(t.group_ids, lambda g: prompt[g])
    side = won.each(lambda mine: mean(lp[i] for r in mine for i in t.tokens(r)))
    by_group = {g: mean(mean(lp[i] for i in t.tokens(r)) for r in rs) for g, rs in enumerate(t.live_groups)}
    theme = same.each(lambda mine: mean(by_group[g] for g in mine))
    fixed = same.each(lambda mine: mean(reward[r] for g in mine for r in t.groups[g]))
    loss = (mean(torch.exp(v) for v in side.values()) + mean(v ** 2 for v in theme.values())
            + 0.1 * mean(fixed[same.of[t.group_of[t.rollout_of[i]]]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(side=(won, side), theme=(same, theme), fixed=(same, fixed)),
                  dict(sides=len(won), topics=len(same)), "batch")


@program("key_brought_down", """
extend nothing
keep token where mask
key cell = (group, position)
# The mean over cells weighs groups by their number of places, the mean over groups does not.
by_cell  = mean(mean(reward per group) @ cell)
by_group = mean(mean(reward per group))
wide     = std(real(length) @ token per cell) @ token
loss     = by_cell * mean(logp) - by_group * mean(logp ^ 2) + 0.01 * mean(wide * logp)
minimize loss
metric by_cell  = by_cell
metric by_group = by_group
""", small(336))
def _(table, p):
    t = table.masked()
    lp, reward, cell, group = t.col("token/logp"), t.col("rollout/reward"), cells(t), group_of(t)
    level = {g: mean(reward[r] for r in rs) for g, rs in enumerate(t.live_groups)}
    by_cell = mean(level[group(mine[0])] for mine in cell.members)
    by_group = mean(level.values())
    wide = cell.each(lambda mine: deviation([const(len(t.all_tokens[t.rollout_of[i]])) for i in mine]))
    loss = (by_cell * mean(lp[i] for i in t.tokens()) - by_group * mean(lp[i] ** 2 for i in t.tokens())
            + 0.01 * mean(wide[cell.of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(wide=("token", {i: wide[cell.of[i]] for i in t.tokens()})),
                  dict(by_cell=by_cell, by_group=by_group))


@program("key_scope_of_function", """
extend nothing
keep token where mask
key cell  = (group, position)
key stage = (group, index(turn in rollout))
fn span(x, floor = 0.1 per L = group) = max(max(x per L) - min(x per L), floor)
ret  = rcumsum(step_reward in rollout)
fine = norm(token_reward - old_logp per cell)
mid  = norm(ret per stage) / span(ret per stage)
far  = span(old_logp, floor = 0.5 per (group, correct))
loss = mean((fine + mid) * far * logp)
minimize loss
""", small(337, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, old, paid, steps = (t.col(n) for n in ("token/logp", "token/old_logp", "token/token_reward", "turn/step_reward"))
    right, turn, cell = t.ints("rollout/correct"), t.element_of(), cells(t)
    ret, number, group = {}, {}, {}
    for r in t.rollouts:
        order = t.elements(r)
        for k, e in enumerate(order):
            ret[e], number[e], group[e] = total(steps[x] for x in order[k:]), k, t.group_of[r]
    stage = Key(turns(t), lambda e: (group[e], number[e]))
    half = Key(t.rollouts, lambda r: (t.group_of[r], right[r]))

    def span(values, floor):
        values = [float(v) for v in values]
        return max(max(values, default=0) - min(values, default=0), floor)

    fine = z_score_in(cell, {i: paid[i] - old[i] for i in t.tokens()})
    normed = z_score_in(stage, ret)
    width = stage.each(lambda mine: span((ret[e] for e in mine), 0.1))
    mid = {e: normed[e] / width[stage.of[e]] for e in ret}
    far = half.each(lambda mine: span((old[i] for r in mine for i in t.tokens(r)), 0.5))
    loss = mean((fine[i] + mid[turn[i]]) * far[half.of[t.rollout_of[i]]] * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(fine=("token", fine), mid=("turn", mid), far=(half, far)))


@program("gigpo", """
# Group-in-group: an episode's advantage, and a step's among the turns of the group that met its state.
param gamma = 0.95
param step_weight = 1.0
input anchor : int @ turn
input invalid : bool @ turn
key state_of = (group, anchor)
ret          = discounted(step_reward, gamma in rollout) - 0.1 * real(invalid)
episode      = reward @ turn - 0.1 * real(invalid)
step_adv     = norm(ret per state_of)
advantage    = norm(episode) + step_weight * step_adv
loss         = token_mean(token_loss)
metric alone = mean(count(turn per state_of) == 1)
""", anchored(338), settings={"step_weight": 0.7})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    paid, reward = t.col("turn/step_reward"), t.col("rollout/reward")
    anchor, bad, turn = t.ints("turn/anchor"), t.ints("turn/invalid"), t.element_of()
    ret, episode, group = {}, {}, {}
    for r in t.rollouts:
        carried = ZERO
        for e in reversed(t.elements(r)):
            carried = paid[e] + 0.95 * carried
            ret[e], episode[e], group[e] = carried - 0.1 * bad[e], reward[r] - 0.1 * bad[e], t.group_of[r]
    state = Key(turns(t), lambda e: (group[e], anchor[e]))
    step = z_score_in(state, ret)
    whole = z_score_in(Key(turns(t), group.get), episode)
    adv = {e: whole[e] + 0.7 * step[e] for e in step}
    answer = ppo_tokens(run, GRPO, {i: adv[turn[i]] for i in t.tokens()}, run.token_ratios(), token_mean, level="token")
    answer.values.update(advantage=("turn", adv), step_adv=("turn", step), ret=("turn", ret))
    answer.metrics["alone"] = sum(len(m) == 1 for m in state.members) / len(state)
    return answer


@program("ada_grpo_formats", """
# Rewards of rare formats weigh more, and less so as training goes on.
input format : int @ rollout
key style = (group, format)
rarity    = real(count(rollout per group)) / real(count(rollout per style))
alpha     = 1 + 0.5 * (rarity - 1) * (1 + cos(pi * train.progress))
advantage = group_norm(alpha * reward)
""", formats(339))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward, form = t.col("rollout/reward"), t.ints("rollout/format")
    progress = float(t.col("batch/train.progress"))
    style = Key(t.rollouts, lambda r: (t.group_of[r], form[r]))
    shaped = {}
    for mine in style.members:
        for r in mine:
            rarity = len(t.live_groups[t.group_of[r]]) / len(mine)
            shaped[r] = (1 + 0.5 * (rarity - 1) * (1 + math.cos(math.pi * progress))) * reward[r]
    return ppo_tokens(run, GRPO, z_scores(t, shaped, 1e-4), run.token_ratios(), seq_mean)


@program("key_detached", """
extend nothing
keep token where mask
key cell = (group, position)
# No gradient flows through the baseline, but it reads the other rollouts' policy.
usual = detach(mean(entropy per cell))
loss  = mean((token_reward - usual) * logp)
minimize loss
""", small(340))
def _(table, p):
    t = table.masked()
    lp, h, paid, cell = t.col("token/logp"), t.col("token/entropy"), t.col("token/token_reward"), cells(t)
    base = cell.each(lambda mine: mean(h[i].detach() for i in mine))
    loss = mean((paid[i] - base[cell.of[i]]) * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(usual=(cell, base)), coupling="group")


@program("key_where", """
extend nothing
keep token where mask
key cell = (group, position)
# Conditions of the elements' level and of the cell's; cells in which nothing holds.
good  = mean(logp where token_reward > 0 per cell)
crowd = count(token per cell) > 1
both  = sum(logp where crowd @ token and correct per group)
loss  = mean(good ^ 2 where crowd) + mean(logp where not crowd @ token) + 0.1 * mean(exp(both / 10))
minimize loss
metric crowds = mean(crowd)
""", small(361, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, paid, cell = t.col("token/logp"), t.col("token/token_reward"), cells(t)
    right = t.ints("rollout/correct")
    good = cell.each(lambda mine: mean(lp[i] for i in mine if paid[i] > 0))
    crowd = cell.each(lambda mine: len(mine) > 1)
    both = [total(lp[i] for r in rs if right[r] for i in t.tokens(r) if crowd[cell.of[i]]) for rs in t.live_groups]
    loss = (mean(good[c] ** 2 for c in cell if crowd[c]) + mean(lp[i] for i in t.tokens() if not crowd[cell.of[i]])
            + 0.1 * mean(torch.exp(v / 10) for v in both))
    return Answer(t, loss, dict(good=(cell, good), crowd=(cell, crowd)),
                  dict(crowds=sum(crowd.values()) / max(len(cell), 1)), "group")


@program("key_policy_of_cells", """
extend nothing
policy head : real @ token
keep token where mask
key cell = (group, position)
# Two live columns; the head's spread in a cell and the policy's mean meet there.
loss = mean(mean(logp per cell) * std(head per cell)) + mean(mean(head per cell) ^ 2)
minimize loss
""", with_head(342))
def _(table, p):
    t = table.masked()
    lp, head, cell = t.col("token/logp"), t.col("token/head"), cells(t)
    loss = (mean(mean(lp[i] for i in mine) * deviation([head[i] for i in mine]) for mine in cell.members)
            + mean(mean(head[i] for i in mine) ** 2 for mine in cell.members))
    return Answer(t, loss, coupling="group")
