"""Recipes of the second seed list that change what a token is worth, or compare whole rollouts."""

from .common import *
from .seeds_b import Policy, flat, keep_small, normed, plain, recipe, share, worked


# ---- coupled-GRPO and SofT-GRPO: other log-probabilities ----


def halves(seed, b):
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    for name in ("token/logp", "token/entropy", "token/old_logp", "token/ref_logp"):
        b.columns.pop(name)
    for part in ("lp0", "lpM", "lpC"):
        now = -rng.gamma(1.2, 0.9, n)
        b.put(f"token/{part}", now, policy=True)
        b.put(f"token/old_{part}", now + rng.normal(0, 0.3, n)).put(f"token/ref_{part}", now + rng.normal(0, 0.4, n))
    return b.put("token/M", rng.random(n) < 0.4, np.uint8).put("batch/tau", [rng.uniform(0.2, 0.8)])


@rebuildable
def coupled(seed, **kw):
    return halves(seed, plain(seed, **kw))


def combined(t, kind):
    full, chosen, rest = (t.col(f"token/{kind}{part}") for part in ("lp0", "lpM", "lpC"))
    drawn, tau = t.ints("token/M"), t.col("batch/tau")[0]
    return {i: 0.5 * (full[i] + (chosen[i] / tau if drawn[i] else rest[i] / (1 - tau))) for i in t.tokens()}


@recipe("coupled_grpo", {"": coupled(7100), "_set": (coupled(7101), dict(
    beta=0.3, clip_low=0.1, clip_high=0.2, scale_by_std=True))}, clip_low=0.5, clip_high=0.5, beta=0.01, scale_by_std=False)
def coupled_grpo(table, p):
    t = table.masked()
    run, reward, adv = Policy(t, p, combined(t, ""), combined(t, "old_")), t.col("rollout/reward"), {}
    for rs in t.live_groups:
        for r in rs:
            others = [reward[q] for q in rs if q != r]
            adv[r] = reward[r] - mean(others)
            if p["scale_by_std"]:
                adv[r] = adv[r] / (deviation([reward[q] for q in rs]) + 1e-4)
    loss = token_mean(t, run.losses(adv, ref=combined(t, "ref_")))
    values = {"logp": ("token", run.lp)}
    return run.answer(adv, loss, {"masked_share": share(t.ints("token/M")[i] for i in t.tokens())}, values)


pair = halves(1, plain(1, groups=(4,), one_token=False)).put("rollout/reward", [2.5, 0.5, 0.5, 2], np.float64)
tokens = sum(pair.rollout_size)
pair.put("batch/tau", [0.4], np.float64).put("token/M", np.arange(tokens) % 2, np.uint8).columns.pop("token/mask")
for part, value in (("lp0", -1.2), ("lpM", -0.5), ("lpC", -0.9)):
    pair.put(f"token/{part}", np.full(tokens, value), np.float64, policy=True)
worked("coupled_grpo", "", pair, coupled_grpo, lambda a: [
    (a.values["advantage"][1].values(), [1.5, -1.16667, -1.16667, 0.83333]),
    ([a.values["logp"][1][1], a.values["logp"][1][0]], [-1.225, -1.350])])


def gumbel(t, candidates, temperature=1.0):
    """Mean log-density of the stored noise over the candidates that count."""
    ids, g, parts, shares = t.ints("candidate/topk_ids"), t.col("candidate/g"), [], {}
    for i, mine in enumerate(t.rows["candidate"][1]):
        if i in candidates:
            z = [t.col("vocab/logits")[i][ids[k]] / temperature for k in mine]
            shares[i] = [torch.exp(a - torch.logsumexp(torch.stack(z), 0)) for a in z]
    out = {}
    for i, q in shares.items():
        parts = []
        for k, share_ in zip(t.rows["candidate"][1][i], q):
            u = torch.clamp(g[k] - torch.log(share_ + 1e-6), -1.5, 3)
            if math.log(share_.item() + 1e-6) > -3:
                parts.append(-u - torch.exp(-u))
        out[i] = mean(parts)
    return out


@rebuildable
def soft(seed, **kw):
    b = keep_small(small(seed, **{"groups": (3, 1, 2), "max_len": 4, "vocab": 6, "equal_group": 2, **kw}))
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    is_soft = rng.random(n) < 0.7
    sizes = np.where(is_soft, rng.choice([1, 2, 4], n), 0)
    b.hang("candidate", "token", sizes)
    ids = [rng.choice(6, k, replace=False) for k in sizes]
    b.put("candidate/topk_ids", np.concatenate(ids), np.int64).put("token/is_soft", is_soft, np.uint8)
    noise = np.clip(rng.gumbel(size=sizes.sum()), -1.5, 3)
    spread = np.concatenate([np.log(1e-6 + np.ones(k) / k) for k in sizes if k])
    b.put("candidate/g", spread + noise)
    now = gumbel(Table(b), set(np.flatnonzero(is_soft)))
    lp = b.columns["token/old_logp"].astype(np.float64)
    for i in now:
        lp[i] = now[i].item()
    return b.put("token/old_logp", lp + rng.normal(0, 0.3, n)).put("token/ref_logp", lp + rng.normal(0, 0.4, n))


@recipe("soft_grpo", {"": soft(7110), "_set": (soft(7111), dict(beta=0.5, clip_ratio_c=1.5, temperature=0.8))},
        clip_low=0.2, clip_high=0.2, beta=0.002, clip_ratio_c=3.0, temperature=1.0)
def soft_grpo(table, p):
    t = table.masked()
    is_soft, usual, reward = t.ints("token/is_soft"), t.logp(p["temperature"]), t.col("rollout/reward")
    noisy = gumbel(t, {i for i in t.tokens() if is_soft[i]}, p["temperature"])
    run = Policy(t, p, {i: noisy[i] if is_soft[i] else usual[i] for i in t.tokens()})
    adv = normed(t, reward, 1e-6)
    for rs in t.live_groups:
        if len(rs) == 1:
            adv[rs[0]] = reward[rs[0]] / (1 + 1e-6)
    losses, ref = {}, t.col("token/ref_logp")
    for i in t.tokens():
        a, gap = adv[t.rollout_of[i]], torch.clamp(ref[i] - run.lp[i], -20, 20)
        best = clip_objective(run.ratio[i], a, p["clip_low"], p["clip_high"])
        if a < 0:
            best = torch.maximum(best, p["clip_ratio_c"] * a)
        losses[i] = p["beta"] * torch.clamp(torch.exp(gap) - gap - 1, -10, 10) - best
    metrics = {"soft_share": share(is_soft[i] for i in t.tokens())}
    return run.answer(adv, token_mean(t, losses), metrics, {"logp": ("token", run.lp)})


step = Batch([1], [1])
step.hang("candidate", "token", [3])
stored = np.log(np.array([0.70, 0.25, 0.05]) + 1e-6) + [0.3, -0.4, 1.0]
step.put("vocab/logits", np.log([[0.65, 0.30, 0.05]]), np.float64).put("token/action", [0], np.int64)
step.put("candidate/topk_ids", [0, 1, 2], np.int64).put("candidate/g", stored, np.float64)
step.put("token/is_soft", [1], np.uint8).put("rollout/reward", [1], np.float64)
before = step.copy().put("vocab/logits", np.log([[0.70, 0.25, 0.05]]), np.float64)
then = gumbel(Table(before), {0})[0].item()
assert abs(then + 1.1668) < 6e-5, then
step.put("token/old_logp", [then], np.float64).put("token/ref_logp", [then], np.float64)
worked("soft_grpo", "", step, lambda table, p: soft_grpo(table, p), lambda a: [
    (stored, [-0.0567, -1.7863, -1.9957]), ([a.values["logp"][1][0]], [-1.2126]),
    ([a.values["ratio"][1][0]], [0.9553])])


# ---- D3S and TW-GRPO: which tokens count, and how much ----


@rebuildable
def scheduled(seed, progress=0.4, **kw):
    return plain(seed, **{"groups": (4, 1, 3, 2), **kw}).put("batch/train.progress", [progress])


@recipe("d3s", {"": scheduled(7120), "_logits": scheduled(7121, vocab=5), "_set": (scheduled(7122, progress=0.0), dict(
    n_init=0.5, k_init=0.5)), "_end": scheduled(7123, progress=1.0)},
    clip_low=0.2, clip_high=0.2, n_init=0.25, n_final=0.75, k_init=0.2, k_final=1.0)
def d3s(table, p):
    t = table.masked()
    run, now = Policy(t, p), float(t.col("batch/train.progress")[0])
    adv, h = normed(t, t.col("rollout/reward"), 1e-4), t.entropy().detach()

    def count(size, first, last):
        return math.ceil(((1 - now) * first + now * last) * size - 1e-9)

    order = sorted(t.rollouts, key=lambda r: adv[r].item())
    n, best = count(len(order), p["n_init"], p["n_final"]), (-1, None)
    for k in range(n + 1):
        some = order[: n - k] + order[len(order) - k:]
        spread = variance([adv[r] for r in some], 0).item() if some else 0.0
        if spread > best[0] + 1e-9:
            best = (spread, some)
    spread, chosen = best
    pool = [i for i in t.tokens() if t.rollout_of[i] in chosen]
    score = {i: (abs(adv[t.rollout_of[i]]) * h[i]).item() for i in pool}
    kept = set(sorted(pool, key=lambda i: -score[i])[: count(len(pool), p["k_init"], p["k_final"])])
    losses, cut = run.losses(adv), run.clipped(adv)
    metrics = dict(clip_fraction=share(cut[i] for i in kept), trained_share=share(i in kept for i in t.tokens()))
    values = {"chosen": ("rollout", {r: float(r in chosen) for r in t.rollouts}),
              "trained": ("token", {i: float(i in kept) for i in t.tokens()})}
    answer = run.answer(adv, mean(losses[i] for i in sorted(kept)), metrics, values, coupling="batch")
    answer.spread = spread
    return answer


split_ = flat([4, 4], [2] * 8, rollout__reward=[1, 1, 1, 0, 1, 0, 0, 0], token__entropy=np.linspace(1, 2, 16))
worked("d3s", "", split_.put("batch/train.progress", [0.5], np.float64), d3s, lambda a: [
    (np.array([float(v) for v in a.values["advantage"][1].values()]) * (1 + 1e-4 / 0.5),
     [0.5, 0.5, 0.5, -1.5, 1.5, -0.5, -0.5, -0.5]), ([a.spread * (1 + 1e-4 / 0.5) ** 2], [1.25])])


@rebuildable
def weighed(seed, **kw):
    """w_t and K_t are shared by the tokens of a group at one position."""
    b = plain(seed, **kw)
    t, rng = Table(b), np.random.default_rng(seed)
    place, cell = positions(t), {}
    for i in range(t.token_count):
        cell.setdefault((t.group_of[t.rollout_of[i]], place[i]), (rng.uniform(1, 1.7), rng.gamma(1, 0.5)))
    drawn = np.array([cell[t.group_of[t.rollout_of[i]], place[i]] for i in range(t.token_count)])
    return b.put("token/w_t", drawn[:, 0], policy=True).put("token/K_t", drawn[:, 1], policy=True)


@recipe("tw_grpo", {"": weighed(7130).without("token/K_t"), "_logits": weighed(7131, vocab=5).without("token/K_t"),
                    "_divergence": (weighed(7132).without("token/w_t"), dict(from_divergence=True, beta=0.1)),
                    "_live": (weighed(7133).without("token/K_t"), dict(detach_weights=False)),
                    "_live_divergence": (weighed(7134).without("token/w_t"), dict(
                        detach_weights=False, from_divergence=True, alpha=1.4))},
        clip_low=0.2, clip_high=0.2, beta=0.0, alpha=1.7, from_divergence=False, detach_weights=True)
def tw_grpo(table, p):
    t = table.masked()
    return focused(t, p, t.col("token/K_t") if p["from_divergence"] else None)


def focused(t, p, k, coupling="group"):
    run, adv, w = Policy(t, p), normed(t, t.col("rollout/reward"), 1e-4), {}
    if k is not None:
        for rs in t.live_groups:
            mine = [i for r in rs for i in t.tokens(r)]
            low, high = (f(torch.stack([k[i] for i in mine])) for f in (torch.amin, torch.amax))
            w.update({i: 1 + (p["alpha"] - 1) * (k[i] - low) / (high - low + 1e-8) for i in mine})
    else:
        w = {i: t.col("token/w_t")[i] for i in t.tokens()}
    if p["detach_weights"]:
        w = {i: v.detach() for i, v in w.items()}
    losses = run.losses(adv)
    # Even a K_t without gradient is the policy's.
    coupling = "token" if k is None else coupling
    return run.answer(adv, token_mean(t, {i: w[i] * losses[i] for i in losses}), {"mean_weight": mean(w.values())},
                      {"weight": ("token", w)}, coupling=coupling)


def pile(b, rows):
    """Rows of log-probabilities below each token."""
    b.hang("entry", "token", [len(row) for row in rows])
    return b.put("entry/log_p", np.concatenate(rows), np.float64)


@rebuildable
def distributions(seed, **kw):
    b, rng = plain(seed, **kw), np.random.default_rng(seed)
    z = rng.normal(0, 2, (sum(b.rollout_size), 3))
    z[0, 0] -= 40
    return pile(b, z - np.log(np.exp(z).sum(-1, keepdims=True)))


@recipe("tw_grpo_full", {"": distributions(7135), "_set": (distributions(7136), dict(alpha=1.4, beta=0.2))},
        clip_low=0.2, clip_high=0.2, beta=0.0, alpha=1.7, detach_weights=True)
def tw_grpo_full(table, p):
    t, place, k = table.masked(), positions(table), {}
    rows = t.col("entry/log_p").reshape(t.token_count, -1)
    uniform = torch.full_like(rows[0], -math.log(rows.shape[1]))
    for rs in t.live_groups:
        for at in {place[i] for r in rs for i in t.tokens(r)}:
            mine = {r: [i for i in t.tokens(r) if place[i] == at] for r in rs}
            stack = torch.stack([rows[mine[r][0]] if mine[r] else uniform for r in rs])
            gap = torch.clamp(stack.mean(0) - stack, -11, 11)
            found = (torch.exp(gap) - gap - 1).sum(-1).mean()
            k.update({i: found for r in rs for i in mine[r]})
    answer = focused(t, p, k, "token")
    answer.values["K_t"] = ("token", k)
    return answer


guesses = np.log([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.9, 0.1], [0.99, 0.01], [0.6, 0.4]])
worked("tw_grpo_full", "", pile(flat([2], [3, 3], rollout__reward=[1, 0]), guesses), tw_grpo_full, lambda a: [
    (list(a.values["K_t"][1].values()), [0, 0, 2.6651, 2.6651, 0.0710, 0.0710]),
    (list(a.values["weight"][1].values())[:3], [1, 1.7, 1.0187])])
focus = flat([2], [3, 3], rollout__reward=[1, 0])
focus.put("token/K_t", [0, 2.6651, 0.0710] * 2, np.float64, policy=True)
worked("tw_grpo", "", focus, tw_grpo, lambda a: [(list(a.values["weight"][1].values())[:3], [1, 1.7, 1.0187])],
       dict(from_divergence=True))


# ---- GRAO and Reg-GRPO ----


@rebuildable
def answered(seed, **kw):
    """A reference answer in every group but one; one group has nothing else."""
    b = plain(seed, **{"groups": (4, 1, 3, 2), **kw})
    rng = np.random.default_rng(seed)
    role = np.zeros(len(b.rollout_size), int)
    role[[2, 4, int(rng.integers(5, 8))]] = 1
    return b.put("rollout/role", role, np.int64)


@recipe("grao", {"": answered(7140), "_logits": answered(7141, vocab=5), "_set": (answered(7142), dict(
    beta=1.5, lam=0.2, reference_in_stats=False))}, beta=0.5, lam=0.6, reference_in_stats=True)
def grao(table, p):
    t = table.masked()
    lp, reward, role = t.logp(), t.col("rollout/reward"), t.ints("rollout/role")
    score, adv, objectives, weight = {r: mean(lp[i] for i in t.tokens(r)) for r in t.rollouts}, {}, [], {}
    for rs in t.live_groups:
        own, refs = [r for r in rs if not role[r]], [r for r in rs if role[r]]
        counted = [reward[r] for r in (rs if p["reference_in_stats"] else own)]
        for r in rs:
            spread = deviation(counted, 0)
            adv[r] = (reward[r] - mean(counted)) / spread if spread else ZERO
        a_y, j_y = mean(adv[r] for r in refs), mean(score[r] for r in refs)
        imitate = p["beta"] * a_y * j_y
        objectives.append(imitate + mean(adv[r] * score[r] + p["lam"] * adv[r] * (score[r] - j_y) for r in own))
        for r in rs:
            weight[r] = ((1 + p["lam"]) * adv[r] / len(own) if not role[r]
                         else p["beta"] * a_y - p["lam"] * mean(adv[q] for q in own))
    lead = mean(reward[r] for r in t.rollouts if role[r]) - mean(reward[r] for r in t.rollouts if not role[r])
    values = dict(advantage=("rollout", adv), weight=("rollout", weight))
    return Answer(t, -mean(objectives), values, {"reference_lead": lead})


aligned = flat([4], [2, 1, 3, 2], rollout__reward=[0.8, 0.2, 0.5, 0.9]).put("rollout/role", [0, 0, 0, 1], np.int64)
worked("grao", "", aligned, grao, lambda a: [
    (a.values["advantage"][1].values(), [0.7303, -1.4606, -0.3651, 1.0954]),
    (a.values["weight"][1].values(), [0.3895, -0.7790, -0.1947, 0.7668])])


@recipe("reg_grpo", {"": plain(7150), "_logits": plain(7151, vocab=5), "_set": (plain(7152), dict(
    beta=-0.1, eps=0.3, detach_std=False))}, beta=0.04, eps=1e-4, detach_std=True)
def reg_grpo(table, p):
    t = table.masked()
    return regression(t, p, normed(t, t.col("rollout/reward"), 1e-4))


def regression(t, p, adv):
    lp, old, ahat = t.logp(), t.col("token/old_logp"), {}
    z = {r: total(lp[i] - old[i] for i in t.tokens(r)) for r in t.rollouts}
    for rs in t.live_groups:
        spread = deviation([z[r] for r in rs], 0)
        spread = spread.detach() if p["detach_std"] else spread
        ahat.update({r: (z[r] - mean(z[q] for q in rs)) / (spread + p["eps"]) for r in rs})
    square = mean((adv[r] - ahat[r]) ** 2 for r in t.rollouts)
    loss = square
    if p["beta"]:
        ref = t.col("token/ref_logp")
        loss = square + seq_mean(t, {i: p["beta"] * k3(lp[i], ref[i]) for i in t.tokens()})
    metrics = dict(approx_kl=mean((old[i] - lp[i]).detach() for i in t.tokens()),
                   explained=1 - square / max(float(mean(adv[r] ** 2 for r in t.rollouts)), 1e-8))
    return Answer(t, loss, dict(advantage=("rollout", adv), predicted=("rollout", ahat)), metrics, "group")


regressed = flat([3], [1] * 3, rollout__credit=[1.2, -0.3, -0.9], token__old_logp=[-1.0] * 3)
regressed.put("token/logp", [-0.6, -0.9, -1.2], np.float64)


@program("recipe_reg_grpo_worked", """
extend reg_grpo
param eps  = 1e-9
param beta = 0
input credit : real @ rollout
advantage = credit
""", regressed)
def _(t, p):
    credit = dict(enumerate(t.col("rollout/credit")))
    answer = regression(t, dict(beta=0, eps=1e-9, detach_std=True), credit)
    found = [float(v.detach()) for v in answer.values["predicted"][1].values()] + [float(answer.loss.detach())]
    assert np.allclose(found, [1.2247, 0, -1.2247, 0.0654], atol=6e-5), found
    return answer


# ---- TGDPO and cDPO: pairs ----


@rebuildable
def pairs(seed, **kw):
    """Pairs, two of them in one group, one rollout without a partner, two chosen ones."""
    b = keep_small(small(seed, **{"groups": (2, 1, 4, 2, 3), "max_len": 5, "one_token": False, **kw}))
    b.put("rollout/is_chosen", [1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0], np.uint8)
    b.put("rollout/pair_id", [0, 0, 0, 1, 1, 5, 5, 0, 0, 2, 2, 2], np.int64)
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    return b.put("token/rm_lp", b.columns["token/ref_logp"] + rng.normal(0, 2, n)).put("token/q_t", rng.random(n))


def paired(table):
    """(rows of whole pairs, [(chosen, rejected)])"""
    t = table.masked()
    chosen, pid = t.ints("rollout/is_chosen"), t.ints("rollout/pair_id") if t.has("rollout/pair_id") else None
    found = {}
    for r in range(t.rollout_count):
        found.setdefault((t.group_of[r], pid[r] if pid else 0), ([], []))[0 if chosen[r] else 1].append(r)
    whole = [sides for sides in found.values() if sides[0] and sides[1]]
    kept = {r for sides in whole for side in sides for r in side}
    return t.keep_rollouts(lambda r: r in kept), whole


def preferred(t, whole, weight, beta):
    lp, ref = t.logp(), t.col("token/ref_logp")
    score = {r: total(weight[i] * (lp[i] - ref[i]) for i in t.tokens(r)) for r in t.rollouts}
    margin = [mean(score[r] for r in a) - mean(score[r] for r in z) for a, z in whole]
    loss = mean(torch.nn.functional.softplus(-beta * m) for m in margin)
    metrics = dict(accuracy=share(m > 0 for m in margin), mean_margin=mean(margin))
    answer = Answer(t, loss, dict(weight=("token", weight), score=("rollout", score)), metrics, "group")
    return answer


@recipe("tgdpo", {"": pairs(7160), "_logits": pairs(7161, vocab=5), "_set": (pairs(7162), dict(alpha=2.0, beta=0.5))},
        alpha=0.5, beta=0.1)
def tgdpo(table, p):
    t, whole = paired(table)
    ref, rm, chosen = t.col("token/ref_logp"), t.col("token/rm_lp"), t.ints("rollout/is_chosen")
    weight = {i: 1 + (1 if chosen[t.rollout_of[i]] else -1) * p["alpha"] * p["beta"] * (rm[i] - ref[i]) for i in t.tokens()}
    answer = preferred(t, whole, weight, p["beta"])
    answer.metrics["negative_weights"] = float(share(w < 0 for w in weight.values()))
    return answer


guided = Batch([2], [2, 2]).put("rollout/is_chosen", [1, 0], np.uint8)
guided.put("token/ref_logp", [-1, -2, -0.5, -3], np.float64)
guided.put("token/logp", [-0.7, -2.1, -0.3, -2.6], np.float64).put("token/rm_lp", [0, -4, 0, 0], np.float64)
worked("tgdpo", "", guided, tgdpo, lambda a: [
    ([0.1 * v for v in a.values["score"][1].values()], [0.02250, 0.05350]), ([a.loss], [0.70877])])
worked("tgdpo", "_dpo", guided, tgdpo, lambda a: [([a.loss], [0.71335])], {"alpha": 0.0})


@rebuildable
def contrasted(seed, **kw):
    b, rng = pairs(seed, **{"vocab": 4, "groups": (2, 1, 4, 2, 3), "max_len": 3, **kw}), np.random.default_rng(seed)
    n = sum(b.rollout_size)
    return b.put("vocab/pos_logits", rng.normal(0, 2, (n, 4))).put("vocab/neg_logits", rng.normal(0, 2, (n, 4)))


@recipe("cdpo", {"": pairs(7170), "_logits": (contrasted(7171), dict(from_logits=True, contrast=0.5)),
                 "_code": (pairs(7172), dict(position_paired=True, beta=0.5)),
                 "_both": (pairs(7173), dict(only_neg=False)),
                 "_code_both": (pairs(7174), dict(only_neg=False, position_paired=True, beta=1.0))},
        beta=0.1, only_neg=True, from_logits=False, contrast=1.0, position_paired=False)
def cdpo(table, p):
    t, whole = paired(table)
    chosen, weight = t.ints("rollout/is_chosen"), {}
    for i in t.tokens():
        if p["from_logits"]:
            z = (1 + p["contrast"]) * t.col("vocab/pos_logits")[i] - p["contrast"] * t.col("vocab/neg_logits")[i]
            q = torch.softmax(z, -1)[t.ints("token/action")[i]]
        else:
            q = t.col("token/q_t")[i]
        weight[i] = (const(1.0) if p["only_neg"] else q) if chosen[t.rollout_of[i]] else 1 - q
    answer = preferred(t, whole, weight, p["beta"])
    answer.metrics["rejected_weight"] = float(mean(weight[i] for i in t.tokens() if not chosen[t.rollout_of[i]]))
    if p["position_paired"]:
        lp, ref, place, terms = t.logp(), t.col("token/ref_logp"), positions(t), []
        longest = max(len(t.all_tokens[r]) for r in t.rollouts)
        for sides in whole:
            for k in range(longest):
                x = total((1 if chosen[r] else -1) * weight[i] * (lp[i] - ref[i])
                          for side in sides for r in side for i in t.tokens(r) if place[i] == k)
                terms.append(torch.nn.functional.softplus(-p["beta"] * x))
        answer.loss = mean(terms)
    return answer


critical = Batch([2], [3, 3]).put("rollout/is_chosen", [0, 1], np.uint8).put("token/action", [0, 1, 2] * 2, np.int64)
rng = np.random.default_rng(5)
critical.put("vocab/logits", rng.normal(0, 1, (6, 3)), np.float64).put("token/ref_logp", rng.normal(-1, 0.3, 6), np.float64)
critical.put("vocab/pos_logits", [[2, 1, 0]] * 6, np.float64).put("vocab/neg_logits", [[3, 0, 0]] * 6, np.float64)
worked("cdpo", "", critical, cdpo, lambda a: [
    (list(a.values["weight"][1].values()), [0.7553, 0.3348, 0.9100, 1, 1, 1])], dict(from_logits=True))
