"""Ordered pairs of rollouts, and the objectives that compare them."""

from .common import *


def scores(t, x):
    return {r: mean(x[i] for i in t.tokens(r)) for r in t.rollouts}


def log_sigmoid(x):
    return torch.nn.functional.logsigmoid(x)


@program("pairs_margins", """
extend nothing
keep token where mask
key duel = pairs(rollout in group)
score = mean(logp per rollout)
gap   = left(score in duel) - right(score in duel)
won   = left(reward in duel) > right(reward in duel)
loss  = -mean(log_sigmoid(gap) where won) + 0.1 * mean(mean(gap ^ 2 per group))
minimize loss
metric duels = count(duel)
metric won   = mean(won)
metric each  = mean(count(duel per group))
""", small(430, groups=(3, 1, 4, 2)))
def _(table, p):
    t = table.masked()
    reward, duel, score = t.col("rollout/reward"), Pairs(t), scores(t, t.col("token/logp"))
    gap = duel.each(lambda a, b: score[a] - score[b])
    won = duel.each(lambda a, b: bool(reward[a] > reward[b]))
    inner = {g: [d for d, (a, _) in enumerate(duel.pairs) if t.group_of[a] == g] for g in t.group_ids}
    loss = (-mean(log_sigmoid(gap[d]) for d in gap if won[d])
            + 0.1 * mean(mean(gap[d] ** 2 for d in mine) for mine in inner.values()))
    return Answer(t, loss, dict(gap=(duel, gap), won=(duel, won)),
                  dict(duels=len(duel), won=sum(won.values()) / max(len(won), 1), each=len(duel) / len(inner)), "group")


@program("pairs_baseline", """
# Leave-one-out by pairs: the mean reward of a rollout's opponents. Alone in its group, it has none.
key duel  = pairs(rollout in group)
others    = mean(right(reward in duel) per duel.left)
wins      = count(left(reward in duel) > right(reward in duel) per duel.left)
best      = max(left(reward in duel), default = -1 per duel.right)
advantage = reward - others + 0.1 * wins + 0.01 * best
metric opponents = mean(count(duel per duel.left))
""", small(431, groups=(3, 1, 4)))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward, duel = t.col("rollout/reward"), Pairs(t)
    others = {r: mean(reward[duel.pairs[d][1]] for d in duel.of_left(r)) for r in t.rollouts}
    wins = {r: sum(int(reward[r] > reward[duel.pairs[d][1]]) for d in duel.of_left(r)) for r in t.rollouts}
    best = {r: largest((reward[duel.pairs[d][0]] for d in duel.of_right(r)), -1) for r in t.rollouts}
    adv = {r: reward[r] - others[r] + 0.1 * wins[r] + 0.01 * best[r] for r in t.rollouts}
    answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), seq_mean)
    answer.values.update(others=("rollout", others), wins=("rollout", wins), best=("rollout", best))
    answer.metrics["opponents"] = float(mean(const(len(duel.of_left(r))) for r in t.rollouts))
    return answer


@program("pairs_linear", """
extend nothing
keep token where mask
key duel = pairs(rollout in group)
# A sum over tokens, if it were written so; live values of a pair couple at its group.
loss = -mean(left(mean(logp per rollout) in duel) * (left(reward in duel) - right(reward in duel)))
minimize loss
""", small(432, groups=(3, 1, 4)))
def _(table, p):
    t = table.masked()
    reward, duel, score = t.col("rollout/reward"), Pairs(t), scores(t, t.col("token/logp"))
    return Answer(t, -mean(duel.each(lambda a, b: score[a] * (reward[a] - reward[b])).values()), coupling="group")


@program("pairs_both_sides", """
extend nothing
keep token where mask
key duel = pairs(rollout in group)
# Reduced to either side, with gradient through the pair to the other one.
score = sum(logp per rollout)
lead  = sum(sigmoid(left(score in duel) - right(score in duel)) per duel.left)
lag   = max(left(score in duel) per duel.right)
soft  = logsumexp(right(score in duel) / 2 per duel.left)
loss  = mean(lead * reward) - 0.1 * mean(lag) + 0.1 * mean(if soft > -inf then soft else 0)
minimize loss
""", small(433, groups=(3, 1, 2), max_len=4))
def _(table, p):
    t = table.masked()
    lp, reward, duel = t.col("token/logp"), t.col("rollout/reward"), Pairs(t)
    score = {r: total(lp[i] for i in t.tokens(r)) for r in t.rollouts}
    lead, lag, soft = {}, {}, {}
    for r in t.rollouts:
        to = [score[duel.pairs[d][1]] for d in duel.of_left(r)]
        by = [score[duel.pairs[d][0]] for d in duel.of_right(r)]
        lead[r] = total(torch.sigmoid(score[r] - s) for s in to)
        lag[r] = largest(by)
        soft[r] = torch.logsumexp(torch.stack([const(s) / 2 for s in to]), 0) if to else ZERO
    loss = mean(lead[r] * reward[r] - 0.1 * lag[r] + 0.1 * soft[r] for r in t.rollouts)
    return Answer(t, loss, dict(lead=("rollout", lead), lag=("rollout", lag)), coupling="group")


@program("pairs_filtered", """
extend nothing
keep token where mask
drop rollout where truncated
key duel = pairs(rollout in group)
close = abs(left(reward in duel) - right(reward in duel)) < 0.3
rival = count(close per duel.left)
score = mean(old_logp per rollout)
gap   = mean(left(score in duel) - right(score in duel) where close per duel.left)
loss  = mean((rival + gap) * logp)
minimize loss
metric duels = count(duel)
""", small(434, groups=(5, 1, 4, 2)))
def _(table, p):
    cut = table.ints("rollout/truncated")
    t = table.masked().keep_rollouts(lambda r: not cut[r])
    lp, reward, duel, score = t.col("token/logp"), t.col("rollout/reward"), Pairs(t), scores(t, t.col("token/old_logp"))
    close = duel.each(lambda a, b: bool(abs(reward[a] - reward[b]) < 0.3))
    rival = {r: sum(close[d] for d in duel.of_left(r)) for r in t.rollouts}
    gap = {r: mean(score[r] - score[duel.pairs[d][1]] for d in duel.of_left(r) if close[d]) for r in t.rollouts}
    loss = mean((rival[t.rollout_of[i]] + gap[t.rollout_of[i]]) * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(close=(duel, close), rival=("rollout", rival), gap=("rollout", gap)),
                  dict(duels=len(duel)))


DISCO = """
extend nothing
param tau   = 1.0
param beta  = 10.0
param delta = 0.01
keep token where mask
key duel = pairs(rollout in group)
score  = mean(logp per rollout)
valid  = left(correct in duel) and not right(correct in duel)
# For each right answer, the soft maximum over the wrong ones of its group.
rivals = count(valid per duel.left)
worst  = tau * (logsumexp(right(score in duel) / tau where valid per duel.left) - log(real(max(rivals, 1))))
margin = mean(score - worst where rivals > 0 per group)
"""


def disco_margin(t):
    lp, right = t.col("token/logp"), t.ints("rollout/correct")
    score, margin = scores(t, lp), {}
    for g, rs in enumerate(t.live_groups):
        good, bad = [r for r in rs if right[r]], [r for r in rs if not right[r]]
        if good and bad:
            soft = torch.logsumexp(torch.stack([score[r] for r in bad]), 0) - math.log(len(bad))
            margin[g] = mean(score[r] - soft for r in good)
        else:
            margin[g] = ZERO
    return margin


@rebuildable
def answers(seed, **kw):
    """About half of the rollouts right."""
    b = small(seed, **{**kw, "groups": kw.get("groups", (4, 1, 3, 2))})
    return b.put("rollout/correct", np.random.default_rng(seed).random(len(b.rollout_size)) < 0.5, np.uint8)


@program("disco", DISCO + """
loss = -mean(margin)
minimize loss
""", answers(435))
def _(table, p):
    t = table.masked()
    margin = disco_margin(t)
    return Answer(t, -mean(margin.values()), dict(margin=("group", margin)), coupling="group")


@program("disco_hinge", DISCO + """
# The squared hinge's weight reads the policy of the whole batch.
kl   = mean(old_logp - logp)
loss = -mean(margin) + detach(max(beta * (kl - delta), 0)) * kl
minimize loss
""", answers(436, spread=0.6), settings={"beta": 3.0, "delta": -0.5})
def _(table, p):
    t = table.masked()
    lp, old, margin = t.col("token/logp"), t.col("token/old_logp"), disco_margin(t)
    kl = mean(old[i] - lp[i] for i in t.tokens())
    hinge = max(3.0 * (kl.item() + 0.5), 0)
    return Answer(t, -mean(margin.values()) + hinge * kl, dict(margin=("group", margin)), coupling="batch")


@program("gepo", """
extend nothing
param beta = 0.5
param lam  = 1.0
keep token where mask
key side = (group, correct)
# Group equivalent preference: winners' implicit rewards above losers', and alike among themselves.
implicit = beta * sum(logp - ref_logp per rollout)
inside   = mean(implicit per side)
lead     = mean(inside where correct_side per group) - mean(inside where not correct_side per group)
correct_side = any(correct per side)
loss     = -mean(log_sigmoid(lead)) + lam * mean(var(implicit, ddof = 0 per side) where correct_side)
minimize loss
""", answers(437))
def _(table, p):
    t = table.masked()
    lp, ref, right = t.col("token/logp"), t.col("token/ref_logp"), t.ints("rollout/correct")
    implicit = {r: 0.5 * total(lp[i] - ref[i] for i in t.tokens(r)) for r in t.rollouts}
    lead, spread = {}, []
    for g, rs in enumerate(t.live_groups):
        good, bad = [r for r in rs if right[r]], [r for r in rs if not right[r]]
        lead[g] = mean(implicit[r] for r in good) - mean(implicit[r] for r in bad)
        if good:
            spread.append(variance([implicit[r] for r in good], 0))
    loss = -mean(log_sigmoid(v) for v in lead.values()) + mean(spread)
    return Answer(t, loss, dict(lead=("group", lead)), coupling="group")
