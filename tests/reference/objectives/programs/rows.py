"""Segmentations that cross, rows below a token, rows beside the tokens."""

from .common import *


def pieces(t):
    turn, item = t.element_of(), t.element_of("item")
    return Key(t.tokens(), lambda i: (turn[i], item[i]))


@rebuildable
def with_tools(seed, **kw):
    b = with_items(seed, **{"empty": True, **kw})
    n = len(b.segmentations["item"][0])
    return b.put("item/tool", np.random.default_rng(seed).integers(0, 3, n), np.int64)


@rebuildable
def with_candidates(seed, **kw):
    """Up to four candidates for a token, some tokens with none: ids, weights, a policy's number for each."""
    b = small(seed, **{"vocab": 8, **kw})
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 2, 4], sum(b.rollout_size), p=[0.25, 0.2, 0.3, 0.25])
    n = int(sizes.sum())
    b.hang("candidate", "token", sizes)
    b.put("candidate/cand_id", np.concatenate([rng.choice(8, k, replace=False) for k in sizes] + [[]]), np.int64)
    b.put("candidate/weight", rng.uniform(0.1, 1, n))
    b.put("candidate/allowed", rng.random(n) < 0.7, np.uint8)
    return b.put("candidate/noise", rng.normal(0, 1, n))


@rebuildable
def with_guesses(seed, **kw):
    b = with_candidates(seed, **kw)
    n = len(b.columns["candidate/weight"])
    return b.put("candidate/guess", np.random.default_rng(seed).normal(-1, 1, n), policy=True)


@rebuildable
def with_rubric(seed, **kw):
    """Criteria of a rollout: none to four, with weights, verdicts and a policy's opinion."""
    b = small(seed, **{"groups": (4, 1, 3), **kw})
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 2, 4], len(b.rollout_size))
    n = int(sizes.sum())
    b.hang("criterion", "rollout", sizes)
    b.put("criterion/weight", rng.uniform(0.2, 1, n))
    b.put("criterion/met", rng.random(n) < 0.6, np.uint8)
    b.put("criterion/kind", rng.integers(0, 2, n), np.int64)
    return b.put("criterion/opinion", rng.normal(0, 1, n), policy=True)


@program("pieces_of_two_segmentations", """
extend nothing
level item in rollout
input score : real @ item
# Where a turn and an item overlap; `position` makes tokens the finest part.
key piece = (turn, item, position >= 0)
size   = count(token per piece)
cuts   = count(piece per turn)
spans  = count(piece per item)
weight = step_reward @ piece + score @ piece + 0.1 * size
loss   = mean(weight * logp) + 0.1 * mean(cuts * mean(logp per turn)) + 0.1 * mean(spans * mean(logp per item))
minimize loss
metric pieces = count(piece)
""", with_items(450, groups=(3, 1, 2), max_len=9, mask=False))
def _(table, p):
    t = table.masked()
    lp, score, paid = t.col("token/logp"), t.col("item/score"), t.col("turn/step_reward")
    piece, turn, item = pieces(t), t.element_of(), t.element_of("item")
    weight = piece.each(lambda mine: paid[turn[mine[0]]] + score[item[mine[0]]] + 0.1 * len(mine))
    in_turn, in_item = piece.under(turn.__getitem__), piece.under(item.__getitem__)
    cuts = {e: len(in_turn.get(e, [])) for e in turns(t)}
    items_ = [e for r in t.rollouts for e in t.elements(r, "item")]
    spans = {e: len(in_item.get(e, [])) for e in items_}
    loss = (mean(weight[piece.of[i]] * lp[i] for i in t.tokens())
            + 0.1 * mean(cuts[e] * mean(lp[i] for i in t.tokens_in(e)) for e in cuts)
            + 0.1 * mean(spans[e] * mean(lp[i] for i in t.tokens_in(e, "item")) for e in spans))
    values = dict(size=(piece, piece.each(len)), cuts=("turn", cuts), spans=("item", spans), weight=(piece, weight))
    return Answer(t, loss, values, dict(pieces=len(piece)))


@program("pieces_live", """
extend nothing
level item in rollout
keep token where mask
key piece = (turn, item, position >= 0)
# Pieces are reduced to turns in one term and to items in the other.
words = mean(logp per piece)
loss  = mean(exp(mean(words per turn))) + mean(mean(words ^ 2 per item))
        - 0.5 * mean(exp(mean(words per item)))
minimize loss
""", with_items(451, max_len=9))
def _(table, p):
    t = table.masked()
    lp, piece = t.col("token/logp"), pieces(t)
    in_turn, in_item = piece.under(t.element_of().__getitem__), piece.under(t.element_of("item").__getitem__)
    words = piece.each(lambda mine: mean(lp[i] for i in mine))
    items_ = [e for r in t.rollouts for e in t.elements(r, "item")]
    loss = (mean(torch.exp(mean(words[c] for c in in_turn.get(e, []))) for e in turns(t))
            + mean(mean(words[c] ** 2 for c in in_item.get(e, [])) for e in items_)
            - 0.5 * mean(torch.exp(mean(words[c] for c in in_item.get(e, []))) for e in items_))
    return Answer(t, loss, dict(words=(piece, words)), coupling="rollout")


@program("segmentations_meet", """
extend nothing
level item in rollout
input score : real @ item
keep token where mask
# No key: what belongs to turns and to items is brought down to tokens, and up again.
both = step_reward @ token * score @ token
mix  = mean(both per item) @ token - mean(score @ token per turn) @ token
loss = mean(mean(both * logp per turn)) + 0.1 * mean(mix * logp)
minimize loss
metric mixed = mean(mean(step_reward @ token per item))
""", with_items(452, max_len=9, empty=True, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, score, paid = t.col("token/logp"), t.col("item/score"), t.col("turn/step_reward")
    turn, item = t.element_of(), t.element_of("item")
    both = {i: paid[turn[i]] * score[item[i]] for i in t.tokens()}
    items_ = [e for r in t.rollouts for e in t.elements(r, "item")]
    by_item = {e: mean(both[i] for i in t.tokens_in(e, "item")) for e in items_}
    by_turn = {e: mean(score[item[i]] for i in t.tokens_in(e)) for e in turns(t)}
    mix = {i: by_item[item[i]] - by_turn[turn[i]] for i in t.tokens()}
    loss = (mean(mean(both[i] * lp[i] for i in t.tokens_in(e)) for e in turns(t))
            + 0.1 * mean(mix[i] * lp[i] for i in t.tokens()))
    mixed = mean(mean(paid[turn[i]] for i in t.tokens_in(e, "item")) for e in items_)
    return Answer(t, loss, dict(both=("token", both), mix=("token", mix)), dict(mixed=mixed))


@program("key_of_items", """
extend nothing
level item in rollout
input score : real @ item
input tool : int @ item
keep token where mask
key kind = (group, tool)
# Sets of items, some of them empty, and what the group's items of one tool have in common.
above = score - mean(score per kind)
words = mean(mean(logp per item) per kind)
loss  = mean(above * mean(logp per item)) + mean(words ^ 2)
minimize loss
metric kinds = mean(count(kind per group))
""", with_tools(453))
def _(table, p):
    t = table.masked()
    lp, score, tool, group = t.col("token/logp"), t.col("item/score"), t.ints("item/tool"), {}
    items_ = [e for r in t.rollouts for e in t.elements(r, "item")]
    for r in t.rollouts:
        group.update({e: t.group_of[r] for e in t.elements(r, "item")})
    kind = Key(items_, lambda e: (group[e], tool[e]))
    said = {e: mean(lp[i] for i in t.tokens_in(e, "item")) for e in items_}
    above = {}
    for mine in kind.members:
        above.update(zip(mine, minus_mean([score[e] for e in mine])))
    words = kind.each(lambda mine: mean(said[e] for e in mine))
    inner = kind.under(group.get)
    loss = mean(above[e] * said[e] for e in items_) + mean(v ** 2 for v in words.values())
    return Answer(t, loss, dict(above=("item", above), words=(kind, words)),
                  dict(kinds=mean(const(len(inner.get(g, []))) for g in t.group_ids)), "group")


# ---- rows below a token


@program("candidates", """
extend nothing
level candidate in token
input cand_id : int @ candidate
input weight  : real @ candidate
keep token where mask
# The distribution read at several places of its row; tokens without candidates have a mean of 0.
cand_logp = at(log_softmax(logits), cand_id)
number    = count(candidate per token)
soft      = mean(cand_logp per token)
loss      = -sum(weight * cand_logp) / 10 + mean(exp(soft)) + 0.1 * mean(number * logp)
minimize loss
metric candidates = count(candidate)
metric likely     = mean(max(exp(cand_logp) per token))
""", with_candidates(460))
def _(table, p):
    t = table.masked()
    own, cand, weight, rows = torch.log_softmax(t.col("vocab/logits"), -1), t.ints("candidate/cand_id"), t.col("candidate/weight"), t.rows["candidate"][1]
    lp = t.logp()
    cand_lp = {c: own[i][cand[c]] for i in t.tokens() for c in rows[i]}
    number, soft = {i: len(rows[i]) for i in t.tokens()}, {i: mean(cand_lp[c] for c in rows[i]) for i in t.tokens()}
    loss = (-total(weight[c] * v for c, v in cand_lp.items()) / 10 + mean(torch.exp(v) for v in soft.values())
            + 0.1 * mean(number[i] * lp[i] for i in t.tokens()))
    likely = mean(max((cand_lp[c].exp().item() for c in rows[i]), default=0) for i in t.tokens())
    return Answer(t, loss, dict(cand_logp=(Rows(t, "candidate"), cand_lp), number=("token", number), soft=("token", soft)),
                  dict(candidates=len(cand_lp), likely=likely))


@program("candidates_renormalised", """
extend nothing
level candidate in token
input cand_id : int @ candidate
input noise   : real @ candidate
# Soft thinking: the density of the noise that mixed the candidates, under the policy among them.
keep token where mask
keep token where count(candidate per token) > 0
z       = at(logits, cand_id)
share   = z - logsumexp(z per token)
gap     = clip(noise - share, -1.5, 3)
density = mean(-gap - exp(-gap) where share > -3 per token)
spread  = std(share per token)
loss    = -mean(mean(density per rollout) * (reward - mean(reward per group))) - 0.1 * mean(spread)
minimize loss
""", with_candidates(461))
def _(table, p):
    rows = table.rows["candidate"][1]
    t = table.masked().keep_tokens(lambda i: rows[i])
    logits, cand, noise, reward = t.col("vocab/logits"), t.ints("candidate/cand_id"), t.col("candidate/noise"), t.col("rollout/reward")
    density, spread, adv = {}, {}, {}
    for i in t.tokens():
        z = torch.stack([logits[i][cand[c]] for c in rows[i]])
        share = z - torch.logsumexp(z, 0)
        gap = torch.clamp(noise[rows[i]] - share, -1.5, 3)
        density[i] = mean(v for v, s in zip(-gap - torch.exp(-gap), share) if s > -3)
        spread[i] = deviation(list(share)) if len(share) > 1 else ZERO
    for rs in t.live_groups:
        adv.update(zip(rs, minus_mean([reward[r] for r in rs])))
    loss = (-mean(mean(density[i] for i in t.tokens(r)) * adv[r] for r in t.rollouts)
            - 0.1 * mean(spread.values()))
    return Answer(t, loss, dict(density=("token", density), spread=("token", spread)))


@program("candidates_policy", """
extend nothing
level candidate in token
input allowed : bool @ candidate
input weight  : real @ candidate
policy guess : real @ candidate
keep token where mask
keep candidate where allowed
# Differentiable rows; the filter takes rows away and leaves their tokens.
mixed = logsumexp(guess per token)
some  = any(weight > 0.5 per token)
best  = first(guess per token)
order = cumsum(weight in token)
place = index(candidate in token)
loss  = mean(if count(candidate per token) > 0 then mixed else 0) + 0.1 * mean(best * old_logp where some)
        + 0.1 * mean((order + place) * guess) + 0.1 * mean(sum(guess per rollout) ^ 2)
minimize loss
metric rows = count(candidate)
""", with_guesses(462))
def _(table, p):
    t = table.masked()
    guess, weight, allowed, old = t.col("candidate/guess"), t.col("candidate/weight"), t.ints("candidate/allowed"), t.col("token/old_logp")
    rows = {i: [c for c in t.rows["candidate"][1][i] if allowed[c]] for i in t.tokens()}
    order, place = {}, {}
    for mine in rows.values():
        for k, c in enumerate(mine):
            order[c], place[c] = total(weight[x] for x in mine[: k + 1]), k
    mixed = [torch.logsumexp(torch.stack([guess[c] for c in mine]), 0) if mine else ZERO for mine in rows.values()]
    best = [(guess[mine[0]] if mine else ZERO) * old[i] for i, mine in rows.items() if any(weight[c] > 0.5 for c in mine)]
    squares = mean(total(guess[c] for i in t.tokens(r) for c in rows[i]) ** 2 for r in t.rollouts)
    loss = (mean(mixed) + 0.1 * mean(best) + 0.1 * mean((order[c] + place[c]) * guess[c] for c in order) + 0.1 * squares)
    level = Rows(t, "candidate")
    return Answer(t, loss, dict(order=(level, order), place=(level, place)), dict(rows=len(order)), "rollout")


@program("candidates_and_keys", """
extend nothing
level candidate in token
input cand_id : int @ candidate
keep token where mask
key cell = (group, position)
key word = (group, cand_id)
# Rows of all rollouts of a group that are at one place, and that name one id.
cand_logp = at(log_softmax(logits), cand_id)
spot      = mean(cand_logp per cell)
theme     = mean(cand_logp per word)
loss      = mean(exp(spot)) + mean(theme ^ 2) + 0.1 * mean(count(candidate per word) * cand_logp)
minimize loss
metric words = count(word)
""", with_candidates(463))
def _(table, p):
    t = table.masked()
    own, cand, rows, cell = torch.log_softmax(t.col("vocab/logits"), -1), t.ints("candidate/cand_id"), t.rows["candidate"][1], cells(t)
    token = {c: i for i in t.tokens() for c in rows[i]}
    cand_lp = {c: own[i][cand[c]] for c, i in token.items()}
    word = Key(token, lambda c: (t.group_of[t.rollout_of[token[c]]], cand[c]))
    spot = cell.each(lambda mine: mean(cand_lp[c] for i in mine for c in rows[i]))
    theme = word.each(lambda mine: mean(cand_lp[c] for c in mine))
    loss = (mean(torch.exp(v) for v in spot.values()) + mean(v ** 2 for v in theme.values())
            + 0.1 * mean(len(word.members[word.of[c]]) * cand_lp[c] for c in token))
    return Answer(t, loss, dict(spot=(cell, spot), theme=(word, theme)), dict(words=len(word)), "group")


# ---- rows beside the tokens


@program("rubric", """
list criterion in rollout
input weight : real @ criterion
input met    : bool @ criterion
# The weighted share of criteria that were met is the reward; a rollout without criteria keeps its own.
number    = count(criterion per rollout)
graded    = if number > 0 then sum(weight where met per rollout) / max(sum(weight per rollout), 0.001) else reward
advantage = group_norm(graded)
metric met     = mean(met)
metric ungraded = mean(number == 0)
""", with_rubric(470))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    weight, met, rows, reward = t.col("criterion/weight"), t.ints("criterion/met"), t.rows["criterion"][1], t.col("rollout/reward")
    graded = {}
    for r in t.rollouts:
        full = total(weight[c] for c in rows[r])
        graded[r] = total(weight[c] for c in rows[r] if met[c]) / max(full.item(), 0.001) if rows[r] else reward[r]
    answer = ppo_tokens(run, GRPO, z_scores(t, graded, 1e-4), run.token_ratios(), seq_mean)
    answer.values["graded"] = ("rollout", graded)
    answer.values["number"] = ("rollout", {r: len(rows[r]) for r in t.rollouts})
    every = [c for r in t.rollouts for c in rows[r]]
    answer.metrics.update(met=sum(met[c] for c in every) / len(every),
                          ungraded=sum(not rows[r] for r in t.rollouts) / len(t.rollouts))
    return answer


@program("rubric_filtered", """
extend nothing
list criterion in rollout
input weight : real @ criterion
input kind   : int @ criterion
policy opinion : real @ criterion
keep token where mask
drop rollout where truncated
keep criterion where weight > 0.4
key topic = (group, kind)
# Rows go with their rollout, and are filtered by themselves; tokens do not touch them.
steady = mean((opinion - weight) ^ 2 per rollout)
common = mean(opinion per topic)
rise   = next(weight, 0 in rollout) - weight
top_of = max(weight, default = 0.1 per rollout)
loss   = mean(steady) + 0.1 * mean(common ^ 2) + 0.1 * mean(rise * opinion) + mean(top_of * logp)
minimize loss
metric rows   = count(criterion)
metric topics = count(topic)
""", with_rubric(471, groups=(5, 1, 4)))
def _(table, p):
    cut = table.ints("rollout/truncated")
    t = table.masked().keep_rollouts(lambda r: not cut[r])
    lp, weight, kind, opinion = t.col("token/logp"), t.col("criterion/weight"), t.ints("criterion/kind"), t.col("criterion/opinion")
    rows = {r: [c for c in t.rows["criterion"][1][r] if weight[c] > 0.4] for r in t.rollouts}
    owner = {c: r for r, mine in rows.items() for c in mine}
    rise = {}
    for mine in rows.values():
        for k, c in enumerate(mine):
            rise[c] = (weight[mine[k + 1]] if k + 1 < len(mine) else 0) - weight[c]
    topic = Key(owner, lambda c: (t.group_of[owner[c]], kind[c]))
    common = topic.each(lambda mine: mean(opinion[c] for c in mine))
    top = {r: largest((weight[c] for c in mine), 0.1) for r, mine in rows.items()}
    loss = (mean(mean((opinion[c] - weight[c]) ** 2 for c in mine) for mine in rows.values())
            + 0.1 * mean(v ** 2 for v in common.values()) + 0.1 * mean(rise[c] * opinion[c] for c in owner)
            + mean(top[t.rollout_of[i]] * lp[i] for i in t.tokens()))
    return Answer(t, loss, dict(rise=(Rows(t, "criterion"), rise), common=(topic, common), top_of=("rollout", top)),
                  dict(rows=len(owner), topics=len(topic)), "group")


@program("list_live", """
extend nothing
list criterion in rollout
input weight : real @ criterion
keep token where mask
# A rollout's live value meets its rows, and comes back.
bend = sum(tanh(weight * mean(logp per rollout)) per rollout)
loss = mean(bend)
minimize loss
""", with_rubric(472))
def _(table, p):
    t = table.masked()
    lp, weight, rows = t.col("token/logp"), t.col("criterion/weight"), t.rows["criterion"][1]
    words = {r: mean(lp[i] for i in t.tokens(r)) for r in t.rollouts}
    bend = {r: total(torch.tanh(weight[c] * words[r]) for c in rows[r]) for r in t.rollouts}
    return Answer(t, mean(bend.values()), dict(bend=("rollout", bend)), coupling="rollout")
