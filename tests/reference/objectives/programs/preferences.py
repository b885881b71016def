"""The library's preference objectives: pairs of rollouts, wanted and unwanted ones (recipes C, 2.18)."""

from torch.nn.functional import logsigmoid

from .common import *


def paired(seed, **kw):
    """Groups of two pairs, of one, of one and a lonely rollout, of two chosen, of one with two rejected, of one rollout."""
    b = small(seed, **{"groups": (4, 2, 3, 2, 3, 1), "max_len": 4, "equal_group": None, **kw})
    b.put("rollout/pair_id", [7, 3, 3, 7, 0, 0, 1, 1, 2, 5, 5, 4, 4, 4, 9], np.int64)
    b.put("rollout/is_chosen", [1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1], np.uint8)
    for name in ("value", "old_value", "token_reward", "sampler_logp", "old_logp"):
        b.columns.pop(f"token/{name}")
    return b


def two_by_two(seed, **kw):
    """Every group one pair, without `pair_id`."""
    b = paired(seed, **{"groups": (2, 2, 2), **kw})
    b.columns.pop("rollout/pair_id")
    return b.put("rollout/is_chosen", [0, 1, 1, 0, 0, 1], np.uint8)


class Sides:
    """Whole pairs only; `chosen(x)` and `rejected(x)` are the means of a rollout's number over each side."""

    def __init__(self, table, p):
        t = table.masked()
        chosen = t.ints("rollout/is_chosen")
        name = t.ints("rollout/pair_id") if t.has("rollout/pair_id") else [0] * t.rollout_count
        where = {r: (t.group_of[r], name[r]) for r in range(t.rollout_count)}
        found = {}
        for r, pair in where.items():
            found.setdefault(pair, set()).add(chosen[r])
        self.t = t.keep_rollouts(lambda r: len(found[where[r]]) == 2)
        self.good = [bool(c) for c in chosen]
        self.pairs = {}
        for r in self.t.rollouts:
            self.pairs.setdefault(where[r], []).append(r)
        self.lp = t.logp(p.get("temperature", 1.0))

    def ref(self):
        return self.t.col("token/ref_logp")

    def gap(self, i):
        return self.lp[i] - self.ref()[i]

    def sides(self, x):
        """[(mean of the chosen, mean of the rejected)] of every pair"""
        out = []
        for mine in self.pairs.values():
            out.append((mean(x[r] for r in mine if self.good[r]), mean(x[r] for r in mine if not self.good[r])))
        return out

    def nll(self):
        return -mean(self.lp[i] for r in self.t.rollouts if self.good[r] for i in self.t.tokens(r))


def answer(s, score, losses, margins=None, extra=0.0, weight=1.0, coupling="group"):
    margins = margins if margins is not None else [a - z for a, z in s.sides(score)]
    metrics = dict(accuracy=mean(const(float(m.item() > 0)) for m in margins),
                   mean_margin=mean(const(m.item()) for m in margins))
    return Answer(s.t, weight * mean(losses) + extra, dict(score=("rollout", score)), metrics, coupling)


def preference(name, pair_loss, per_token=None, batch=None, settings=None, case=None, ref=True, coupling="group", **defaults):
    """One case: `pair_loss(a, z, p)` of the two sides' scores, sums (or means) of log-ratios."""

    def reference(table, p):
        p = {"beta": 0.1, **defaults, **p}
        s = Sides(table, p)
        each = (lambda i: s.gap(i)) if ref else (lambda i: s.lp[i])
        reduce = mean if (per_token(p) if callable(per_token) else per_token) else total
        score = {r: reduce(each(i) for i in s.t.tokens(r)) for r in s.t.rollouts}
        if "shape" in defaults:
            score = {r: defaults["shape"](x, p) for r, x in score.items()}
        losses = [pair_loss(a, z, p) for a, z in s.sides(score)]
        extra = p["alpha"] * s.nll() if name == "cpo" else s.nll() if name == "orpo" else 0.0
        return answer(s, score, losses, extra=extra, weight=p["beta"] if name == "orpo" else 1.0, coupling=coupling)

    stdlib_case(case or f"recipe_{name}", name, batch if batch is not None else paired(7000 + len(PROGRAMS)), reference, settings)


def dpo(a, z, p):
    return -logsigmoid(p["beta"] * (a - z))


preference("dpo", dpo)
preference("dpo", dpo, batch=two_by_two(7301, vocab=6), settings={"beta": 0.7, "temperature": 0.8}, case="recipe_dpo_logits")
preference("ipo", lambda a, z, p: (a - z - 1 / (2 * p["beta"])) ** 2, per_token=True)
preference("ipo", lambda a, z, p: (a - z - 1 / (2 * p["beta"])) ** 2, settings={"per_token": 0, "beta": 0.4},
           case="recipe_ipo_sums")
preference("dpo_hinge", lambda a, z, p: torch.relu(1 - p["beta"] * (a - z)), settings={"beta": 1.5})
preference("dpo_norm", dpo, per_token=True)


def robust(a, z, p):
    e, x = p["label_smoothing"], p["beta"] * (a - z)
    return (-(1 - e) * logsigmoid(x) + e * logsigmoid(-x)) / (1 - 2 * e)


preference("robust_dpo", robust, label_smoothing=0.1)


def exo(a, z, p):
    e, q = p["label_smoothing"], torch.sigmoid(p["beta"] * (a - z))
    return q * (torch.log(q) - math.log(1 - e)) + (1 - q) * (torch.log(1 - q) - math.log(e))


preference("exo_pair", exo, label_smoothing=1e-3)
preference("exo_pair", exo, settings={"label_smoothing": 0.2, "beta": 0.9}, case="recipe_exo_pair_set")
preference("nca_pair", lambda a, z, p: -logsigmoid(p["beta"] * a) - 0.5 * logsigmoid(-p["beta"] * a)
           - 0.5 * logsigmoid(-p["beta"] * z))
preference("bco_pair", lambda a, z, p: -logsigmoid(p["beta"] * a - p["shift"]) - logsigmoid(-(p["beta"] * z - p["shift"])),
           shift=0.0)
preference("bco_pair", lambda a, z, p: -logsigmoid(p["beta"] * a - p["shift"]) - logsigmoid(-(p["beta"] * z - p["shift"])),
           settings={"shift": 0.3}, case="recipe_bco_pair_shift")
preference("sppo_hard", lambda a, z, p: (a - 1 / (2 * p["beta"])) ** 2 + (z + 1 / (2 * p["beta"])) ** 2)
preference("apo_zero", lambda a, z, p: 1 - torch.sigmoid(p["beta"] * a) + torch.sigmoid(p["beta"] * z))
preference("apo_down", lambda a, z, p: torch.sigmoid(p["beta"] * a) + 1 - torch.sigmoid(p["beta"] * (a - z)))


def discopop(a, z, p):
    x = p["beta"] * (a - z)
    g = torch.sigmoid(x / 0.05)
    return (1 - g) * -logsigmoid(x) + g * torch.exp(-x)


preference("discopop", discopop)
LINKS = {
    0: lambda x, p: x,
    1: lambda x, p: -torch.exp(-x),
    2: lambda x, p: logsigmoid(x),
    3: lambda x, p: torch.exp((p.get("alpha", 0.5) - 1) * x) / (p.get("alpha", 0.5) - 1),
}
for kind, link in LINKS.items():
    given = {"divergence": kind, "beta": 0.6, **({"alpha": 0.3} if kind == 3 else {})}
    preference("f_dpo", dpo, shape=link, settings=given, case=f"recipe_f_dpo_{kind}")
preference("f_dpo", dpo, shape=LINKS[1], case="recipe_f_dpo")
preference("simpo", lambda a, z, p: -logsigmoid(p["beta"] * (a - z) - p["gamma"]), per_token=True, ref=False, gamma=0.5)
preference("simpo", lambda a, z, p: -logsigmoid(p["beta"] * (a - z) - p["gamma"]), per_token=True, ref=False,
           settings={"beta": 2.5, "gamma": 1.2}, batch=two_by_two(7302, vocab=5), case="recipe_simpo_logits")
preference("cpo", dpo, ref=False, alpha=1.0)
preference("alphapo", lambda a, z, p: -logsigmoid(p["beta"] * (a - z) - p["gamma"]), per_token=True, ref=False, gamma=0.5,
           shape=lambda x, p: (1 - torch.exp(x) ** -p.get("alpha", 0.25)) / p.get("alpha", 0.25), settings={"beta": 2.0})


def nearer(batch):
    """No rollout of ORPO's may be certain (log-odds of a mean log-probability of 0)."""
    batch.columns["token/mask"][:] = 1
    return batch


preference("orpo", lambda a, z, p: -logsigmoid(a - z), per_token=True, ref=False, batch=nearer(paired(7303)),
           shape=lambda x, p: x - torch.log(1 - torch.exp(x)))


def sorted_margins(name):
    def reference(table, p):
        e, beta = p.get("label_smoothing", 0.0), p.get("beta", 0.1)
        s = Sides(table, p)
        rollouts = s.t.rollouts
        score = {r: total(s.gap(i) for i in s.t.tokens(r)) for r in rollouts}
        if name == "aot":
            now = s.sides({r: total(s.lp[i] for i in s.t.tokens(r)) for r in rollouts})
            before = s.sides({r: total(s.ref()[i] for i in s.t.tokens(r)) for r in rollouts})
            x, y = [a - z for a, z in now], [a - z for a, z in before]
        else:
            x, y = [a for a, _ in s.sides(score)], [z for _, z in s.sides(score)]
        order = lambda v: sorted(v, key=lambda e: e.item())
        margins = [a - b for a, b in zip(order(x), order(y))]
        losses = [-(1 - e) * logsigmoid(beta * m) - e * logsigmoid(-beta * m) for m in margins]
        return answer(s, score, losses, margins, coupling="batch")

    return reference


for name in ("aot", "aot_unpaired"):
    stdlib_case(f"recipe_{name}", name, paired(7310), sorted_margins(name), {"label_smoothing": 0.1, "beta": 0.5})
    stdlib_case(f"recipe_{name}_logits", name, two_by_two(7311, vocab=5), sorted_margins(name))


def wpo(table, p):
    s = Sides(table, p)
    logits = table.col("vocab/logits")
    fit = {}
    for r in s.t.rollouts:
        aligned = [s.lp[i] - torch.log((torch.softmax(logits[i], 0) ** 2).sum()) for i in s.t.tokens(r)]
        fit[r] = torch.exp(mean(aligned)).detach()
    score = {r: total(s.gap(i) for i in s.t.tokens(r)) for r in s.t.rollouts}
    losses = [u * v * dpo(a, z, {"beta": 0.1}) for (u, v), (a, z) in zip(s.sides(fit), s.sides(score))]
    return answer(s, score, losses)


stdlib_case("recipe_wpo", "wpo", paired(7320, vocab=5, max_len=3), wpo)


def ld_dpo(table, p):
    s = Sides(table, p)
    size = {r: len(s.t.tokens(r)) for r in s.t.rollouts}
    score = {}
    for mine in s.pairs.values():
        shared = min(size[r] for r in mine)
        for r in mine:
            weights = [1.0 if k < shared else p["ld_alpha"] for k in range(size[r])]
            score[r] = total(w * s.gap(i) for w, i in zip(weights, s.t.tokens(r)))
    return answer(s, score, [dpo(a, z, {"beta": 0.1}) for a, z in s.sides(score)])


stdlib_case("recipe_ld_dpo", "ld_dpo", paired(7330, max_len=6), ld_dpo, {"ld_alpha": 0.3})


def sft_chosen(table, p):
    s = Sides(table, p)
    score = {r: total(s.gap(i) for i in s.t.tokens(r)) for r in s.t.rollouts}
    return answer(s, score, [ZERO], [a - z for a, z in s.sides(score)], extra=s.nll(), coupling="token")


stdlib_case("recipe_sft_chosen", "sft_chosen", paired(7335), sft_chosen)


def wanted(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    count = len(b.rollout_size)
    b.put("rollout/is_chosen", np.arange(count) % 3 != 1, np.uint8)
    return b.put("rollout/mismatched_log_ratio", rng.normal(0.4, 1, count))


def kto(anchored):
    def reference(table, p):
        p = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0, **p}
        t = table.masked()
        lp, ref, good = t.logp(), t.col("token/ref_logp"), t.ints("rollout/is_chosen")
        kl = max(mean(t.col("rollout/mismatched_log_ratio")).item(), 0.0) if anchored else 0.0
        score = {r: total(lp[i] - ref[i] for i in t.tokens(r)) for r in t.rollouts}
        losses = [p["desirable_weight"] * (1 - torch.sigmoid(p["beta"] * (score[r] - kl))) if good[r]
                  else p["undesirable_weight"] * (1 - torch.sigmoid(p["beta"] * (kl - score[r]))) for r in t.rollouts]
        gap = mean(score[r].detach() for r in t.rollouts if good[r]) - mean(score[r].detach() for r in t.rollouts if not good[r])
        return Answer(t, mean(losses), dict(score=("rollout", score)), dict(mean_margin=gap), "rollout")

    return reference


stdlib_case("recipe_kto", "kto", wanted(7340), kto(True))
stdlib_case("recipe_kto_logits", "kto", wanted(7341, vocab=6), kto(True), {"desirable_weight": 1.3, "undesirable_weight": 0.7, "beta": 0.5})
below = wanted(7342)
below.columns["rollout/mismatched_log_ratio"] -= 5
stdlib_case("recipe_kto_below", "kto", below, kto(True))
stdlib_case("recipe_apo_zero_unpaired", "apo_zero_unpaired", wanted(7343).without("rollout/mismatched_log_ratio"), kto(False))


def a2po(table, p):
    t = table.masked()
    lp, ref, best = t.logp(), t.col("token/ref_logp"), t.col("group/v_star")
    reward = t.col("rollout/reward")
    b = p.get("beta2", 1e-3)
    implied = {r: b * total(lp[i] - ref[i] for i in t.tokens(r)) for r in t.rollouts}
    losses = [(implied[r] - (reward[r] - best[t.group_of[r]])) ** 2 for r in t.rollouts]
    return Answer(t, mean(losses), dict(implicit_reward=("rollout", implied)),
                  dict(mean_implicit_reward=mean(v.detach() for v in implied.values())), "rollout")


stdlib_case("recipe_a2po", "a2po", small(7350).put("group/v_star", [0.4, 0.1, 0.7]), a2po)
stdlib_case("recipe_a2po_logits", "a2po", vocab(7351).put("group/v_star", [0.4, 0.1, 0.7]), a2po, {"beta2": 0.2})
