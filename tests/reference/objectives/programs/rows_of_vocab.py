"""Distributions: divergences both ways, entropies, top-n policies, heads, order statistics of a row."""

from .common import *


def logs(t, name="vocab/logits", temperature=1.0):
    return torch.log_softmax(t.col(name) / temperature, -1)


def top_of(row, n):
    """The n largest; ties to the earlier."""
    values = row.tolist()
    return sorted(sorted(range(len(values)), key=lambda k: (-values[k], k))[:n])


@rebuildable
def tied_rows(seed, **kw):
    """Logits in halves, so that a row's largest and smallest are often shared."""
    b = vocab(seed, **kw)
    b.columns["vocab/logits"] = np.round(b.columns["vocab/logits"])
    return b


@rebuildable
def with_heads(seed, **kw):
    """Two more heads, whose rows belong to the tokens they predict."""
    b = vocab(seed, **kw)
    rng = np.random.default_rng(seed)
    for k in (1, 2):
        b.put(f"vocab/mtp_logits.{k}", rng.normal(0, 1.5, (sum(b.rollout_size), 8)), policy=True)
    return b


@rebuildable
def with_old(seed, **kw):
    b = vocab(seed, **kw)
    noise = np.random.default_rng(seed).normal(0, 0.4, b.columns["vocab/logits"].shape)
    return b.put("vocab/old_logits", b.columns["vocab/logits"] + noise)


@program("vocab_kl_both_ways", """
extend nothing
keep token where mask
p = log_softmax(logits / temperature)
q = log_softmax(ref_logits / temperature)
reverse = sum(exp(p) * (p - q) per token)
forward = sum(exp(q) * (q - p) per token)
loss    = seq_mean(reverse) + 0.5 * token_mean(forward)
minimize loss
""", vocab(540), settings={"temperature": 0.8})
def _(table, p):
    t = table.masked()
    own, ref = logs(t, temperature=0.8), logs(t, "vocab/ref_logits", 0.8)
    reverse = {i: (own[i].exp() * (own[i] - ref[i])).sum() for i in t.tokens()}
    forward = {i: (ref[i].exp() * (ref[i] - own[i])).sum() for i in t.tokens()}
    return Answer(t, seq_mean(t, reverse) + 0.5 * token_mean(t, forward), dict(reverse=("token", reverse), forward=("token", forward)))


@program("vocab_entropies", """
extend nothing
param order = 2.0
param tsallis_order = 1.5
keep token where mask
probs   = softmax(logits)
renyi   = log(sum(probs ^ order per token)) / (1 - order)
tsallis = (1 - sum(probs ^ tsallis_order per token)) / (tsallis_order - 1)
unlikely = 1 - sum(probs ^ 2 per token)
loss    = -mean(renyi) + 0.3 * mean(tsallis ^ 2) - 0.1 * mean(unlikely * token_reward)
minimize loss
metric entropy = mean(entropy)
""", vocab(541), settings={"order": 3.0})
def _(table, p):
    t = table.masked()
    probs, paid, h = logs(t).exp(), t.col("token/token_reward"), t.entropy()
    renyi = {i: torch.log((probs[i] ** 3.0).sum()) / -2.0 for i in t.tokens()}
    tsallis = {i: (1 - (probs[i] ** 1.5).sum()) / 0.5 for i in t.tokens()}
    loss = mean(-renyi[i] + 0.3 * tsallis[i] ** 2 - 0.1 * (1 - (probs[i] ** 2).sum()) * paid[i] for i in t.tokens())
    return Answer(t, loss, dict(renyi=("token", renyi), tsallis=("token", tsallis)), dict(entropy=mean(h[i] for i in t.tokens())))


@program("vocab_top_policy", """
extend nothing
keep token where mask
# The policy among its own n most likely words, and its distance to the reference there.
inside = top(logits, 3 in token)
narrow = if inside then logits else -inf
own    = log_softmax(narrow)
other  = log_softmax(if inside then ref_logits else -inf)
mass   = sum(softmax(logits) where inside per token)
gap    = sum(if inside then exp(own) * (own - other) else 0 per token)
loss   = mean(gap) - 0.2 * mean(log(mass)) - 0.1 * mean(logp)
minimize loss
metric inside = mean(real(at(inside, action)))
""", vocab(542))
def _(table, p):
    t = table.masked()
    logits, ref, action, lp = t.col("vocab/logits"), t.col("vocab/ref_logits"), t.ints("token/action"), t.logp()
    mass, gap, hits = {}, {}, []
    for i in t.tokens():
        k = top_of(logits[i], 3)
        own, other = torch.log_softmax(logits[i][k], 0), torch.log_softmax(ref[i][k], 0)
        mass[i] = torch.softmax(logits[i], 0)[k].sum()
        gap[i] = (own.exp() * (own - other)).sum()
        hits.append(const(action[i] in k))
    loss = mean(gap[i] - 0.2 * torch.log(mass[i]) - 0.1 * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(mass=("token", mass), gap=("token", gap)), dict(inside=mean(hits)))


@program("vocab_top_teacher", """
extend nothing
keep token where mask
# Distillation on the teacher's n most likely words only; the rest is one more word.
inside  = top(ref_logits, 4 in token)
teacher = softmax(ref_logits)
student = softmax(logits)
rest_t  = sum(teacher where not inside per token)
rest_s  = sum(student where not inside per token)
kl      = sum(teacher * (log(teacher) - log(student)) where inside per token)
loss    = mean(kl + rest_t * (log(rest_t) - log(rest_s)))
minimize loss
""", vocab(543))
def _(table, p):
    t, kl, terms = table.masked(), {}, []
    for i in t.tokens():
        ref = torch.softmax(t.col("vocab/ref_logits")[i], 0)
        own = torch.softmax(t.col("vocab/logits")[i], 0)
        k = top_of(t.col("vocab/ref_logits")[i], 4)
        rest = [x for x in range(8) if x not in k]
        kl[i] = (ref[k] * (ref[k].log() - own[k].log())).sum()
        terms.append(kl[i] + ref[rest].sum() * (ref[rest].sum().log() - own[rest].sum().log()))
    return Answer(t, mean(terms), dict(kl=("token", kl)))


@program("vocab_order_statistics", """
extend nothing
keep token where mask
high  = max(logits per token)
low   = min(logits per token)
mid   = quantile(logits, 0.5 per token)
edge  = quantile(ref_logits, 0.9 per token)
start = first(logits per token)
close = last(logits per token)
ref_p = at(softmax(ref_logits), action)
loss  = mean(high - 2 * low) + mean(start * close) + 0.1 * mean(edge * logp) + 0.1 * mean(ref_p * logp)
minimize loss
metric mid = mean(mid)
""", tied_rows(544))
def _(table, p):
    t = table.masked()
    logits, ref, lp, action = t.col("vocab/logits"), t.col("vocab/ref_logits"), t.logp(), t.ints("token/action")
    high, low, mid, edge, terms = {}, {}, {}, {}, []
    for i in t.tokens():
        row = logits[i]
        high[i], low[i] = row.amax(), row.amin()
        mid[i], edge[i] = quantile(list(row), 0.5), quantile(list(ref[i]), 0.9)
        chance = torch.softmax(ref[i], 0)[action[i]]
        terms.append(high[i] - 2 * low[i] + row[0] * row[7] + 0.1 * (edge[i] + chance) * lp[i])
    values = {n: ("token", v) for n, v in dict(high=high, low=low, mid=mid, edge=edge).items()}
    return Answer(t, mean(terms), values, dict(mid=mean(mid.values())))


@program("vocab_quantile", """
extend nothing
keep token where mask
spread = quantile(logits, 0.8 per token) - quantile(logits, 0.25 per token)
loss   = mean(spread) - 0.1 * mean(logp)
minimize loss
""", vocab(545, vocab=9))
def _(table, p):
    t, lp = table.masked(), table.logp()
    rows = t.col("vocab/logits")
    spread = {i: quantile(list(rows[i]), 0.8) - quantile(list(rows[i]), 0.25) for i in t.tokens()}
    return Answer(t, mean(spread[i] - 0.1 * lp[i] for i in t.tokens()), dict(spread=("token", spread)))


@program("vocab_argmax", """
extend nothing
keep token where mask
# At token level: the most likely word, the first of equal ones.
best   = argmax(logits in token)
chosen = argmax(ref_logits in token)
agree  = best == chosen
loss   = -mean(at(log_softmax(logits), chosen)) - 0.1 * mean(at(logits, best)) + 0.1 * sum(real(best) * token_reward * logp) / 10
minimize loss
metric agree  = mean(agree)
metric greedy = mean(best == action)
""", tied_rows(546))
def _(table, p):
    t = table.masked()
    logits, ref, lp, action, paid = t.col("vocab/logits"), t.col("vocab/ref_logits"), t.logp(), t.ints("token/action"), t.col("token/token_reward")
    best = {i: top_of(logits[i], 1)[0] for i in t.tokens()}
    chosen = {i: top_of(ref[i], 1)[0] for i in t.tokens()}
    own = logs(t)
    loss = (mean(-own[i][chosen[i]] - 0.1 * logits[i][best[i]] for i in t.tokens())
            + 0.1 * total(best[i] * paid[i] * lp[i] for i in t.tokens()) / 10)
    return Answer(t, loss, dict(best=("token", best), chosen=("token", chosen)),
                  dict(agree=mean(const(best[i] == chosen[i]) for i in best),
                       greedy=mean(const(best[i] == action[i]) for i in best)))


@program("vocab_heads", """
extend nothing
policy mtp_logits[2] : real @ vocab
param weights[2] = 0.5
keep token where mask
# Multi-token prediction beside the policy: each head's own likelihood, and its distance to the policy.
own   = log_softmax(logits)
heads = sum(weights[k] * at(log_softmax(mtp_logits[k]), action) for k in 1..2)
apart = sum(sum(exp(own) * (own - log_softmax(mtp_logits[k])) per token) for k in 1..2)
loss  = -mean(logp * token_reward) - mean(heads) + 0.1 * mean(apart)
minimize loss
""", with_heads(547))
def _(table, p):
    t = table.masked()
    own, lp, paid, action = logs(t), t.logp(), t.col("token/token_reward"), t.ints("token/action")
    heads, apart = {i: ZERO for i in t.tokens()}, {i: ZERO for i in t.tokens()}
    for k in (1, 2):
        head = logs(t, f"vocab/mtp_logits.{k}")
        for i in t.tokens():
            heads[i] = heads[i] + 0.5 * head[i][action[i]]
            apart[i] = apart[i] + (own[i].exp() * (own[i] - head[i])).sum()
    loss = mean(-lp[i] * paid[i] - heads[i] + 0.1 * apart[i] for i in t.tokens())
    return Answer(t, loss, dict(heads=("token", heads), apart=("token", apart)))


@program("occ", """
extend nothing
policy mtp_logits[2] : real @ vocab
param lam = 0.3
keep token where mask
# The heads' coefficient is calibrated by the batch: as strong as the policy's loss, but no more than lam.
advantage = group_norm(reward)
main      = -token_mean(clipped(exp(logp - old_logp), advantage, 0.2, 0.2))
heads     = -mean(token_mean(at(log_softmax(mtp_logits[k]), action)) for k in 1..2)
loss      = main + detach(min(lam, abs(main) / heads)) * heads
minimize loss
metric coefficient = min(lam, abs(main) / heads)
""", with_heads(548))
def _(table, p):
    t = table.masked()
    lp, old, action, adv = t.logp(), t.col("token/old_logp"), t.ints("token/action"), grpo_advantage(t)
    main = -mean(clip_objective(torch.exp(lp[i] - old[i]), adv[t.rollout_of[i]], 0.2, 0.2) for i in t.tokens())
    both = [logs(t, f"vocab/mtp_logits.{k}") for k in (1, 2)]
    heads = -mean(mean(h[i][action[i]] for i in t.tokens()) for h in both)
    weight = min(0.3, abs(main.item()) / heads.item())
    return Answer(t, main + weight * heads, {}, dict(coefficient=weight), "batch")


@program("vocab_old_logits", """
extend nothing
keep token where mask
# An old log-probability computed from the row, and a trust region on whole distributions.
old    = log_softmax(old_logits)
ratio  = exp(logp - at(old, action))
region = sum(exp(old) * (old - log_softmax(logits)) per token)
loss   = -token_mean(clipped(ratio, center(reward), 0.1, 0.1)) + 0.1 * mean(region where region > 0.01)
minimize loss
metric region = max(region)
""", with_old(549))
def _(table, p):
    t = table.masked()
    own, old, lp, action, reward = logs(t), logs(t, "vocab/old_logits"), t.logp(), t.ints("token/action"), t.col("rollout/reward")
    adv = {}
    for rs in t.live_groups:
        adv.update(zip(rs, minus_mean([reward[r] for r in rs])))
    ratio = {i: torch.exp(lp[i] - old[i][action[i]]) for i in t.tokens()}
    region = {i: (old[i].exp() * (old[i] - own[i])).sum() for i in t.tokens()}
    loss = (-mean(clip_objective(ratio[i], adv[t.rollout_of[i]], 0.1, 0.1) for i in t.tokens())
            + 0.1 * mean(v for v in region.values() if v > 0.01))
    # How many tokens pass the live condition is known to the batch only.
    return Answer(t, loss, dict(ratio=("token", ratio), region=("token", region)),
                  dict(region=max(v.item() for v in region.values())), "batch")


@program("vocab_in_cells", """
extend nothing
keep token where mask
key cell = (group, position)
# Entropies of one place in a group: the rows stay with their tokens, only numbers meet.
usual  = mean(entropy per cell)
weight = sigmoid(entropy - usual)
loss   = -mean(detach(weight) * logp * reward) + 0.1 * mean(std(entropy per cell))
minimize loss
""", vocab(550, groups=(4, 1, 3)))
def _(table, p):
    t = table.masked()
    lp, h, reward, cell = t.logp(), t.entropy(), t.col("rollout/reward"), cells(t)
    usual = cell.each(lambda mine: mean(h[i] for i in mine))
    weight = {i: torch.sigmoid(h[i] - usual[cell.of[i]]).detach() for i in t.tokens()}
    loss = (-mean(weight[i] * lp[i] * reward[t.rollout_of[i]] for i in t.tokens())
            + 0.1 * mean(deviation([h[i] for i in mine]) for mine in cell.members))
    return Answer(t, loss, dict(usual=(cell, usual), weight=("token", weight)), coupling="group")
