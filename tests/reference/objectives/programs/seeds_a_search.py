"""What recipes A, sections 1 and 4, tell of CalibAdv's code beyond its method."""

from .common import *
from .seeds_a import answer, bools, columns, flag, ppo, raw, usual

# ---- q from documents


@rebuildable
def with_documents(seed, **kw):
    b = small(seed, **{"groups": (5, 1, 6), "max_len": 12, "equal_group": 2, **kw}).without("turn/step_correct")
    rng = np.random.default_rng(seed)
    b.put("rollout/reward", rng.choice([0, 0.3, 0.8, 1], len(b.rollout_size)))
    b = columns(columns(b, seed, fmt=flag(0.8)), seed, "turn", rethought=flag(0.15))
    sizes = rng.choice([0, 2, 3, 3], len(b.segmentations["turn"][0]))
    b.hang("document", "turn", sizes)
    return b.put("document/doc", np.concatenate([rng.choice(7, n, replace=False) for n in sizes]), np.int64)


def documents(table, p):
    run = Run(table, p)
    t, reward, brought = run.t, table.col("rollout/reward"), table.rows["document"][1]
    doc, fmt, rethought = t.ints("document/doc"), bools(t, "rollout/fmt"), bools(t, "turn/rethought")
    q, hits = {s: 0.0 for s in range(len(brought))}, []
    for rollouts in t.live_groups:
        right = [r for r in rollouts if fmt[r] and reward[r] >= p.get("correct_from", 0.7)]
        best = [r for r in right if reward[r] == max(reward[c] for c in right)]
        silver = {doc[d] for r in best for s in t.elements(r) for d in brought[s]}
        for r in rollouts:
            before = []
            for s in t.elements(r):
                mine = {doc[d] for d in brought[s]}
                hit = [doc[d] in silver and not any(doc[d] in e for e in before) for d in brought[s]]
                hits += [const(h) for h in hit]
                again = any(len(mine & e) >= p.get("repeat_from", 2) for e in before)
                if hit and fmt[r] and not again and not rethought[s]:
                    q[s] = sum(hit) / len(hit)
                before.append(mine)
    a = raw(t, reward)
    out = usual(run, calibrated(t, lambda r, i: a[r], q, 1.0), token_mean, level="token", hits=mean(hits))
    out.values = {"step_correct": (brought, q)}
    return out


stdlib_case("recipe_calibadv_docs", "calibadv_docs", with_documents(3628), documents)
stdlib_case("recipe_calibadv_docs_again", "calibadv_docs", with_documents(3606), documents, {"repeat_from": 1})
stdlib_case("recipe_calibadv_docs_threshold", "calibadv_docs", with_documents(3633), documents, {"correct_from": 0.9})

# ---- the switches of the advantage


@rebuildable
def with_template(seed, step=12, **kw):
    b = small(seed, **{"groups": (4, 1, 3, 4), "max_len": 9, "equal_group": 2, **kw})
    q, of = b.columns["turn/step_correct"], b.segmentations["turn"][0]
    ends, left = [], 0
    for n in b.rollout_size:
        ends.append(left)
        while n:
            n -= of[left]
            left += 1
    q[ends[:4]] = 1  # the whole first group got its first step right
    return columns(b, seed, "token", template=flag(0.4)).put("batch/train.step", [step], np.int64)


def switched(table, p):
    run, on = Run(table, p), lambda name: p.get(name, False)
    t, q, lam, adv, parts = run.t, table.col("turn/step_correct"), p.get("lam", 1.0), {}, []
    a = {r: float(v) for r, v in raw(t, t.col("rollout/reward")).items()}
    for rollouts in t.live_groups:
        ceiling = max([a[r] for r in rollouts] + [0.0])
        ends, middle = [], {}
        for r in rollouts:
            *steps, last = t.elements(r)
            for k, s in enumerate(steps):
                alike = [float(q[t.elements(o)[k]]) for o in rollouts if len(t.elements(o)) > k + 1]
                if a[r] < 0 and on("positive_upper_limit"):
                    value = a[r] + (ceiling - a[r]) * float(q[s])
                elif a[r] < 0:
                    value = 0.0 if on("aggressive") and q[s] >= 1 / 3 else a[r] * (1 - float(q[s]))
                else:
                    value = 0.0 if on("reset2zero") and all(v == 1 for v in alike) else a[r]
                for i in t.tokens_in(s):
                    adv[i] = value
                    middle.setdefault(k, []).append(i)
            for i in t.tokens_in(last):
                adv[i] = a[r]
                ends.append(i)
        parts += [ends] + (list(middle.values()) if on("per_turn") else [])
    for part in parts:
        positive, negative = sum(max(adv[i], 0) for i in part), sum(max(-adv[i], 0) for i in part)
        for i in part:
            if positive == 0 or negative == 0:
                adv[i] = 0.0
            elif on("only_apply_risky") and negative / positive <= 1 / lam:
                pass
            elif on("scale_negatives"):
                adv[i] = adv[i] * (positive / (lam * negative) if adv[i] < 0 else 1)
            elif adv[i] > 0:
                adv[i] = adv[i] * lam * negative / positive
    if on("balance_template") and t.ints("batch/train.step")[0] >= p.get("template_from", 10):
        mine = [i for i in t.tokens() if bools(t, "token/template")[i]]
        positive, negative = sum(max(adv[i], 0) for i in mine), sum(max(-adv[i], 0) for i in mine)
        for i in mine:
            if adv[i] > 0:
                adv[i] = adv[i] / (positive / negative + 1e-8) if negative > 0 else 0.0
    if on("floor_batch"):
        above = [v for v in adv.values() if v > 0]
        adv = {i: max(v, -sum(above) / max(len(above), 1) / lam) for i, v in adv.items()}
    return usual(run, {i: const(v) for i, v in adv.items()}, token_mean, level="token")


for n, names in enumerate(([], ["aggressive"], ["positive_upper_limit"], ["reset2zero"], ["per_turn"], ["only_apply_risky"],
                           ["scale_negatives", "per_turn"], ["floor_batch"], ["balance_template"],
                           ["aggressive", "reset2zero", "only_apply_risky", "balance_template", "floor_batch"])):
    stdlib_case("_".join(["recipe_calibadv_full", *names[:2]]), "calibadv_full", with_template(3611 + n), switched,
                {**{name: True for name in names}, **({"lam": 1.5} if n % 2 == 0 and n else {})})
stdlib_case("recipe_calibadv_full_early", "calibadv_full", with_template(3631, step=9), switched, {"balance_template": True})

# ---- CalibAdv's form of LLDS


def strict(table, p):
    run, price = Run(table, p), p.get("lambda", 0.1)
    t, ratio = run.t, run.token_ratios()
    a = raw(t, t.col("rollout/reward"))
    kept = [i for i in t.tokens() if a[t.rollout_of[i]] > 0]
    fell = {i: run.old[i] - run.logp[i] for i in kept}
    lost, pays = {i: ZERO for i in t.tokens()}, 0
    for r in t.rollouts:
        mine = [i for i in t.tokens(r) if i in fell]
        if not p.get("response_gate") or sum(fell[i].item() for i in mine) > 0:
            for i in mine:
                if fell[i] > 0:
                    lost[i] = price * fell[i]
                    pays += 1
    lld = total(lost.values()) / max(len(kept), 1)
    losses = {i: ppo(a[t.rollout_of[i]], ratio[i]) for i in t.tokens()}
    return answer(run, losses, lambda t, x: token_mean(t, x) + lld, a, ratio, coupling="rollout", lld=lld,
                  paid=pays / max(len(kept), 1))


stdlib_case("recipe_llds_calibadv", "llds_calibadv", small(3641, groups=(4, 1, 3), wild=0.2), strict)
stdlib_case("recipe_llds_calibadv_response", "llds_calibadv", small(3642, groups=(4, 1, 3)), strict,
            {"response_gate": True, "lambda": 0.3})
stdlib_case("recipe_llds_calibadv_logits", "llds_calibadv", small(3643, vocab=6, groups=(2, 1, 2), max_len=5), strict)
