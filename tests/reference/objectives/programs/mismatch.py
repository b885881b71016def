"""The library's ratios, masks, sampler corrections and distillation (recipes C, 2.10 and 2.14 to 2.20)."""

from .baselines import PG, cases, kept_mean
from .common import *


def no_clip(g, gained, adv, **kw):
    return g.answer(gained, adv, clip=0.0, **kw)


def score_function(g, weight, adv):
    """weight * A * logp with the weight recorded."""
    return {i: const(weight[i]).detach() * adv[i] * g.lp[i] for i in g.tokens}


@cases("cispo_verl", (small(7700, wild=0.3), {}), (vocab(7701), {"clip_low": 1.0, "clip_high": 4.0, "beta": 0.02}))
def cispo_verl(g, p):
    adv = g.z()
    weight = {i: torch.clamp(g.ratio[i], 1 - g.low, 1 + g.high) for i in g.tokens}
    cut = kept_mean(not 1 - g.low <= g.ratio[i].item() <= 1 + g.high for i in g.tokens)
    return g.answer(score_function(g, weight, adv), adv, clip=cut)


def proper(batch):
    """Recorded probabilities below 1."""
    batch.columns["token/old_logp"] = np.minimum(batch.columns["token/old_logp"], -0.01)
    return batch


def dppo(binary):
    def reference(g, p):
        adv, gained, kept = g.z(), {}, {}
        for i in g.tokens:
            a, q = torch.exp(g.lp[i]).item(), math.exp(g.old[i])
            if binary:
                kl = q * (g.old[i].item() - g.lp[i].item()) + (1 - q) * math.log((1 - q + 1e-8) / (1 - a + 1e-8))
                kept[i] = (kl <= g.high or a <= q) if adv[i] > 0 else (kl <= g.low or a >= q)
            else:
                kept[i] = a - q <= g.high if adv[i] > 0 else a - q >= -g.low
            weight = min(g.ratio[i].item(), p.get("ratio_max", 20.0))
            gained[i] = weight * adv[i] * g.lp[i] if kept[i] else ZERO
        return g.answer(gained, adv, clip=kept_mean(not k for k in kept.values()))

    return reference


cases("dppo_tv", (small(7710, wild=0.3), {}), (vocab(7711, spread=1.0), {"clip_low": 0.05, "clip_high": 0.1, "ratio_max": 1.2, "beta": 0.02})
      )(dppo(False))
cases("dppo_kl", (proper(small(7712, wild=0.3)), {}), (proper(vocab(7713, spread=1.0)), {"clip_low": 0.01, "clip_high": 0.02}))(dppo(True))


@cases("dro", (small(7720), {}), (vocab(7721), {"beta": 0.5}), beta=0.05)
def dro(g, p):
    adv = g.z()
    paid = {i: p["beta"] / 2 * (g.lp[i] - g.old[i]) ** 2 for i in g.tokens}
    return no_clip(g, {i: adv[i] * g.lp[i] for i in g.tokens}, adv, paid=paid, metrics=dict(price=mean(v.detach() for v in paid.values())))


def prime(kind):
    def reference(g, p):
        samp, tau, more = g.t.col("token/sampler_logp"), p.get("tau", 1e-3), {}
        d = {i: g.lp[i] - samp[i] for i in g.tokens}
        if kind == "ref_kl":
            adv = {i: (g.run.ref[i] - g.lp[i]).detach() for i in g.tokens}
            more = dict(reverse_kl=-mean(adv.values()))
        elif kind == "max_rl":
            above, adv = g.centred(), {}
            for mine in g.t.live_groups:
                m = mean(g.reward[r] for r in mine)
                for r in mine:
                    adv.update({i: above[i] / m if m != 0 else ZERO for i in g.t.tokens(r)})
        elif kind == "hierarchical":
            agent, problem, solver = g.t.ints("rollout/agent"), g.t.ints("rollout/problem"), p.get("solver", 1)
            peer = {r: (agent[r], problem[r] if agent[r] == solver else None) for r in g.t.rollouts}
            above, more = {}, []
            for mine in g.t.live_groups:
                for r in mine:
                    same = [g.reward[k] for k in mine if peer[k] == peer[r]]
                    above[r] = g.reward[r] - mean(same)
                    more.append(len(same) > 1)
            adv, more = g.spread(above), dict(compared=kept_mean(more))
        elif kind == "length":
            above, more = {}, []
            parts = [({r: g.size[r] for r in g.t.rollouts}, p.get("output_weight", 0.25)),
                     ({r: g.t.col("rollout/input_tokens")[r].item() if g.t.has("rollout/input_tokens") else 0 for r in g.t.rollouts},
                      p.get("input_weight", 0.1)),
                     ({r: len(g.t.elements(r)) for r in g.t.rollouts}, p.get("turns_weight", 0.1))]
            for mine in g.t.live_groups:
                rate = mean(g.reward[r] for r in mine)
                price = {r: sum(w * x[r] / max(*(x[k] for k in mine), 1) for x, w in parts) for r in mine}
                more += price.values()
                above.update(zip(mine, minus_mean([g.reward[r] - rate * price[r] for r in mine])))
            adv, more = g.spread(above), dict(price=kept_mean(more))
        else:
            adv = g.centred()
        kept, gained = {}, {}
        for i in g.tokens:
            moved = torch.exp(g.lp[i]).item() - math.exp(samp[i])
            if kind == "ipo":
                kept[i] = abs(moved) <= p.get("bound", 0.1)
            else:
                kept[i] = moved <= g.high if adv[i] > 0 and kind != "ref_kl" else moved >= -g.low
            gained[i] = torch.exp(d[i]) * adv[i] if kept[i] else ZERO
        return g.answer(gained, adv, {i: tau * d[i] ** 2 for i in g.tokens}, clip=kept_mean(not k for k in kept.values()),
                        drift=-mean(v.detach() for v in d.values()), metrics=more)

    return reference


cases("prime_rl", (small(7730, wild=0.3), {}), (vocab(7731, spread=1.0), {"clip_low": 0.02, "clip_high": 0.03, "tau": 0.1}))(prime("default"))
cases("prime_rl_ipo", (small(7732, wild=0.3), {}))(prime("ipo"))
cases("prime_rl_ref_kl", (small(7733, wild=0.3), {}), (vocab(7734), {"clip_low": 0.01}))(prime("ref_kl"))
nothing_right = small(7735, groups=(3, 2, 1, 3))
nothing_right.columns["rollout/reward"][:3] = 0
cases("max_rl", (nothing_right, {}))(prime("max_rl"))


def proposed(seed, **kw):
    b, rng = small(seed, **kw), np.random.default_rng(seed)
    n = len(b.rollout_size)
    return b.put("rollout/agent", rng.integers(0, 2, n), np.int64).put("rollout/problem", rng.integers(0, 2, n), np.int64)


cases("hierarchical_grpo", (proposed(7736, groups=(7, 1, 5)), {}), (proposed(7737, groups=(6, 4)), {"solver": 0}))(prime("hierarchical"))
read = small(7739)
read.put("rollout/input_tokens", np.random.default_rng(7739).integers(0, 50, len(read.rollout_size)))
cases("prime_rl_length_penalty", (small(7738), {}), (read, {"output_weight": 0.5, "turns_weight": 0.3}))(prime("length"))


def with_agents(seed, known=None, make=small):
    b = make(seed)
    b.put("rollout/agent", np.random.default_rng(seed).choice([3, 5], len(b.rollout_size)), np.int64)
    if known:
        b.put("state/baseline.key", sorted(known), np.int64).put("state/baseline", [known[k] for k in sorted(known)], np.float64)
    return b


def rae(known):
    def reference(g, p):
        agent, decay, fresh = g.t.ints("rollout/agent"), p.get("decay", 0.95), {}
        for r in g.t.rollouts:
            fresh.setdefault(agent[r], []).append(decay * known.get(agent[r], 0.0) + (1 - decay) * g.reward[r])
        adv = g.spread({r: g.reward[r] - known.get(agent[r], 0.0) for r in g.t.rollouts})
        states = dict(baseline={**known, **{k: mean(v) for k, v in fresh.items()}})
        return no_clip(g, {i: adv[i] * g.lp[i] for i in g.tokens}, adv, states=states)

    return reference


cases("rae", (with_agents(7740), {}))(rae({}))
KNOWN = {5: 0.4, 9: -1.0}
stdlib_case("recipe_rae_known", "rae", with_agents(7741, KNOWN, vocab), lambda table, p: rae(KNOWN)(PG(table, p), p), {"decay": 0.5})


def covariance(g, adv):
    a, m = mean(adv.values()), mean(g.lp[i].item() for i in g.tokens)
    return {i: (adv[i] - a).item() * (g.lp[i].item() - m) for i in g.tokens}


def seeded(batch):
    return batch.put("batch/seed", [11], np.int64)


@cases("clip_cov", (seeded(small(7750)), {}), (seeded(small(7751, groups=(4, 3))), {"clip_cov_ratio": 1.0, "clip_cov_lb": 0.1, "clip_cov_ub": 0.9}),
       (seeded(vocab(7752)), {"clip_cov_ratio": 0.9, "clip_cov_lb": -9.0, "clip_cov_ub": 0.2}),
       (seeded(small(7753, groups=(4, 3, 2))), {"clip_cov_ratio": 0.1, "clip_cov_lb": -0.5, "clip_cov_ub": 9.0}))
def clip_cov(g, p):
    """Of more candidates than may be drawn, those with the largest draws."""
    adv = g.z()
    cov, full = covariance(g, adv), g.ppo(adv)
    held = [i for i in g.tokens if p.get("clip_cov_lb", 1.0) < cov[i] < p.get("clip_cov_ub", 5.0)
            and not is_clipped(g.ratio[i], adv[i], g.low, g.high)]
    draw = uniform(g.t, 4, g.t.token_count)
    held = sorted(held, key=lambda i: -draw[i])[: max(1, int(p.get("clip_cov_ratio", 0.0002) * len(g.tokens)))]
    gained = {i: ZERO if i in held else full[i] for i in g.tokens}
    return g.answer(gained, adv, metrics=dict(drawn_fraction=len(held) / len(g.tokens)), coupling="batch")


@cases("kl_cov", (small(7760), {}), (vocab(7761), {"kl_cov_ratio": 0.3, "ppo_kl_coef": 1.0, "beta": 0.02}), kl_cov_ratio=0.0002,
       ppo_kl_coef=0.1)
def kl_cov(g, p):
    adv = g.z()
    cov, paid = covariance(g, adv), g.k3()
    top = sorted(g.tokens, key=lambda i: -cov[i])[: max(1, int(p["kl_cov_ratio"] * len(g.tokens)))]
    for i in top:
        paid[i] = paid[i] + p["ppo_kl_coef"] * torch.abs(g.lp[i] - g.old[i])
    return no_clip(g, {i: adv[i] * g.ratio[i] for i in g.tokens}, adv, paid=paid,
                   metrics=dict(paying_fraction=len(top) / len(g.tokens)), coupling="batch")


# ---- sampler against trainer ----


def apart(seed, **kw):
    """Sampler and trainer disagree by factors up to ten."""
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    b.put("token/sampler_logp", b.columns["token/old_logp"] + rng.normal(0, 0.8, n) * (rng.random(n) < 0.7))
    return b.put("token/prox_logp", b.columns["token/old_logp"] + rng.normal(0, 0.2, n))


def corrected(name, kind, *batches, reduce=token_mean, **defaults):
    @cases(name, *batches, **defaults)
    def reference(g, p):
        t, adv, cap, floor = g.t, g.z(), p["is_cap"], p["is_floor"]
        gap = {i: (g.old[i] - t.col("token/sampler_logp")[i]).item() for i in g.tokens}
        weight, out, outer = {}, {}, {}
        for r in t.rollouts:
            mine = t.tokens(r)
            whole = math.exp(sum(gap[i] for i in mine))
            even = math.exp(sum(gap[i] for i in mine) / max(len(mine), 1))
            outer[r] = (whole if kind == "mis" else even)
            for i in mine:
                x = whole if kind == "mis" or p.get("sequence") else math.exp(gap[i])
                inside = floor <= (even if kind == "seq_mask" else x) <= cap
                weight[i] = (min(max(x, floor), cap) if kind == "tis" else x if inside else 0.0)
                out[i] = not inside
        share = (dict(cut_fraction=kept_mean(out.values())) if name in ("tis", "icepop")
                 else dict(masked_fraction=kept_mean(not floor <= outer[r] <= cap for r in t.rollouts)))
        if p.get("normalize"):
            heads = [t.tokens(r)[0] for r in t.rollouts if t.tokens(r)] if p.get("sequence") else g.tokens
            average = sum(weight[i] for i in heads) / len(heads)
            weight = {i: w / average for i, w in weight.items()}
        full = g.ppo(adv)
        return g.answer({i: weight[i] * full[i] for i in g.tokens}, adv, reduce=reduce, metrics=share)


corrected("tis", "tis", (apart(7800), {}), (apart(7801, vocab=6), {"is_cap": 1.1, "is_floor": 0.9, "beta": 0.03}),
          (apart(7802), {"sequence": 1}), (apart(7809), {"normalize": 1}), (apart(7799), {"normalize": 1, "sequence": 1}), is_cap=2.0, is_floor=0.0)
corrected("icepop", "icepop", (apart(7803), {}), (apart(7804, vocab=6), {"is_cap": 1.5, "is_floor": 0.8}), is_cap=5.0, is_floor=0.5)
corrected("mis", "mis", (apart(7805), {}), (apart(7806, vocab=6), {"is_floor": 0.5, "beta": 0.04}), reduce=seq_mean, is_cap=3.0,
          is_floor=0.0)
corrected("seq_mask_tis", "seq_mask", (apart(7807), {}), (apart(7808, vocab=6), {"is_cap": 1.2, "is_floor": 0.9}), is_cap=5.0,
          is_floor=0.5)


def rollout_rejection(table, p):
    p = {"estimator": 3, "upper": 2.0, "lower": 0.5, "aggregation": 1, **p}
    old, samp = table.col("token/old_logp"), table.col("token/sampler_logp")
    base = table.masked()
    accepted, kind = {}, p["aggregation"]
    for r in base.rollouts:
        x = [torch.clamp(old[i] - samp[i], -20, 20).item() for i in base.tokens(r)]
        k = {1: lambda v: -v, 2: lambda v: v * v / 2, 3: lambda v: math.exp(v) - 1 - v}[p["estimator"]]
        each = [k(v) for v in x]
        one = {1: sum(each) / max(len(x), 1), 2: sum(each), 3: max(each, default=0.0)}.get(kind)
        for i, mine in zip(base.tokens(r), each):
            m = mine if kind == 0 else one
            accepted[i] = math.log(p["lower"]) <= m <= math.log(p["upper"]) if p["estimator"] == 1 else m <= p["upper"]
    g = PG(table, p, filtered=lambda t: base.keep_tokens(lambda i: accepted.get(i, False)))
    adv = g.z(1e-6, singleton_raw=True)
    gained = g.ppo(adv)
    gained = {i: torch.maximum(s, 3.0 * adv[i]) if adv[i] < 0 else s for i, s in gained.items()}
    hit = kept_mean(adv[i] < 0 and g.ratio[i].item() > 3.0 for i in g.tokens)
    return g.answer(gained, adv, metrics=dict(dual_clip_fraction=hit))


for n, given in enumerate(({"upper": 0.2}, {"estimator": 2, "upper": 0.15}, {"estimator": 1, "upper": 1.2, "lower": 0.9},
                           {"aggregation": 0, "upper": 0.05}, {"aggregation": 2, "estimator": 1, "upper": 2.0},
                           {"aggregation": 3, "upper": 0.3})):
    stdlib_case(f"recipe_rollout_rejection{n or ''}", "rollout_rejection", apart(7810 + n, groups=(4, 3, 1)), rollout_rejection, given)


def decoupled(g, p, anchor, coupling="token"):
    samp, adv = g.t.col("token/sampler_logp"), g.z()
    g.ratio = {i: torch.exp(g.lp[i] - anchor[i]) for i in g.tokens}
    full, gained, cut = g.ppo(adv), {}, []
    kind, whole, low, high = p.get("estimator", 0), p.get("aggregation", 0), p.get("is_floor", -math.inf), p.get("is_cap", 5.0)
    estimate = [lambda x: x, lambda x: x, lambda x: x * x / 2, lambda x: math.exp(-x) - 1 + x][kind]
    for r in g.t.rollouts:
        mine = g.t.tokens(r)
        gap = {i: (anchor[i] - samp[i]).item() for i in mine}
        each = [estimate(x) for x in gap.values()]
        for i in mine:
            m = [estimate(gap[i]), sum(each) / len(mine), sum(each), max(each)][whole]
            inside = low <= (math.exp(m) if kind == 0 else m) <= high
            x = math.exp(sum(gap.values()) / len(mine) if kind == 0 and whole else gap[i])
            cut.append(not inside)
            bounded = x if inside and whole else min(max(x, low), high)
            gained[i] = (bounded if p.get("truncate") else x if inside else 0.0) * full[i]
    return g.answer(gained, adv, coupling=coupling, metrics=dict(cut_fraction=kept_mean(cut)), drift=mean(anchor[i] - g.lp[i].item() for i in g.tokens))


@cases("decoupled_ppo", (apart(7820), {}), (apart(7821, vocab=6), {"is_cap": 1.3}), (apart(7822), {"is_cap": 1.1, "truncate": True, "beta": 0.02}),
       (apart(7823), {"is_cap": 1.3, "is_floor": 0.9}), (apart(7824), {"is_cap": 1.2, "is_floor": 0.9, "aggregation": 1}),
       (apart(7825), {"is_cap": 1.2, "aggregation": 2, "truncate": True}), (apart(7826), {"is_cap": 1.3, "aggregation": 3}),
       (apart(7827), {"estimator": 1, "is_cap": 0.1, "is_floor": -0.2}), (apart(7828), {"estimator": 2, "aggregation": 1, "is_cap": 0.05}),
       (apart(7829), {"estimator": 3, "aggregation": 2, "is_cap": 0.3, "truncate": True}),
       (apart(7833), {"estimator": 3, "aggregation": 3, "is_cap": 0.05}))
def decoupled_ppo(g, p):
    return decoupled(g, p, {i: g.t.col("token/prox_logp")[i].item() for i in g.tokens})


def versions(seed, **kw):
    b = apart(seed, **kw).without("token/prox_logp")
    b.put("token/version", np.random.default_rng(seed).integers(3, 8, sum(b.rollout_size)), np.int64)
    return b.put("batch/policy_version", [7], np.int64)


def decoupled_ppo_version(table, p):
    g = PG(table, p, old="token/sampler_logp")
    samp, version, anchor = g.t.col("token/sampler_logp"), g.t.ints("token/version"), {}
    for i in g.tokens:
        age = 7 - version[i]
        share = 0.0 if age == 0 else min(max((6 - version[i]) / age, 0.0), 1.0)
        anchor[i] = samp[i].item() + share * (g.lp[i].item() - samp[i].item())
    # The interpolation reads the policy, so a rollout's measure does.
    return decoupled(g, p, anchor, "rollout" if p.get("aggregation") else "token")


for n, (batch, given) in enumerate(((versions(7830), {}), (versions(7831, vocab=6), {"is_cap": 1.2}), (versions(7832), {"is_cap": 1.1, "aggregation": 1}))):
    stdlib_case(f"recipe_decoupled_ppo_version{n or ''}", "decoupled_ppo_version", batch, decoupled_ppo_version, given)


@cases("m2po", (apart(7840), {}), (apart(7841, vocab=6), {"tau": 0.3}), (apart(7842), {"tau": 1e-9}),
       (apart(7843), {"count_kept": True, "weighted": True}), tau=0.04)
def m2po(g, p):
    t, adv = g.t, g.z()
    prox, samp = t.col("token/prox_logp"), t.col("token/sampler_logp")
    left = sorted(g.tokens, key=lambda i: ((samp[i] - prox[i]) ** 2).item())
    while len(left) > 1 and sum(((samp[i] - prox[i]) ** 2).item() for i in left) / len(left) >= p["tau"]:
        left.pop()
    g.ratio = {i: torch.exp(g.lp[i] - prox[i]) for i in g.tokens}
    full, reduce = g.ppo(adv), token_mean
    if p.get("weighted"):
        full = {i: math.exp(prox[i] - samp[i]) * full[i] for i in g.tokens}
    if p.get("count_kept"):
        reduce = lambda t, losses: sum(losses[i] for i in left) / len(left)
    return g.answer({i: full[i] if i in left else ZERO for i in g.tokens}, adv, reduce=reduce, drift=mean(prox[i] - g.lp[i].item() for i in g.tokens),
                    metrics=dict(masked_fraction=1 - len(left) / len(g.tokens)))


@cases("bypass_reinforce", (apart(7850), {}), (apart(7851, vocab=6), {"is_cap": 1.2}))
def bypass_reinforce(g, p):
    samp, adv = g.t.col("token/sampler_logp"), g.z()
    ratio = {i: torch.exp(torch.clamp(g.lp[i] - samp[i], -20, 20)) for i in g.tokens}
    weight = {i: torch.clamp(ratio[i], max=p.get("is_cap", 2.0)) for i in g.tokens}
    return g.answer(score_function(g, weight, adv), adv, clip=kept_mean(r.item() > p.get("is_cap", 2.0) for r in ratio.values()),
                    drift=mean(samp[i] - g.lp[i].item() for i in g.tokens))


def bypass_sequence(table, p):
    g = PG(table, p)
    samp, adv, weight, over = g.t.col("token/sampler_logp"), g.z(), {}, []
    for r in g.t.rollouts:
        mine = g.t.tokens(r)
        ratio = torch.exp(torch.clamp(total(g.lp[i] - samp[i] for i in mine), -20, 20))
        weight.update({i: torch.clamp(ratio, max=2.0) for i in mine})
        over += [ratio.item() > 2.0] * len(mine)
    return g.answer(score_function(g, weight, adv), adv, clip=kept_mean(over), coupling="rollout",
                    drift=mean(samp[i] - g.lp[i].item() for i in g.tokens))


stdlib_case("recipe_bypass_reinforce_sequence", "bypass_reinforce", apart(7852), bypass_sequence, {"sequence": 1})


# ---- KL, sums, distillation, rewards ----


def estimate(x, kind):
    return {0: torch.abs(x), 1: x, 2: x ** 2 / 2, 3: torch.exp(-x) + x - 1}[kind]


def kl_reference(g, p):
    adv, paid, kls, x = g.z(), {}, [], {i: g.lp[i] - g.run.ref[i] for i in g.tokens}
    for i in g.tokens:
        k = estimate(x[i], p.get("estimator", 3))
        if p.get("straight_through"):
            square = x[i] ** 2 / 2
            k = k.detach() + square - square.detach()
        if p.get("weighted"):
            k = k * g.ratio[i]
        kls.append(k.detach())
        paid[i] = p.get("beta", 0.001) * k
    return g.answer(g.ppo(adv), adv, paid, reduce=seq_mean, metrics=dict(reference_kl=mean(kls)))


cases("grpo_kl", (small(7860), {}), (small(7861), {"estimator": 0, "beta": 0.3}), (vocab(7862), {"estimator": 1, "weighted": 1, "beta": 0.3}),
      (small(7863), {"estimator": 2, "beta": 0.3}), (vocab(7864), {"straight_through": 1, "beta": 0.3}),
      (small(7865), {"estimator": 1, "straight_through": 1, "beta": 0.3}), (small(7866), {"weighted": 1, "beta": 0.3}))(kl_reference)


@cases("grpo_full_kl", (vocab(7870), {}), (vocab(7871, inf_logits=True), {"beta": 0.3, "temperature": 0.8}), beta=0.001)
def grpo_full_kl(g, p):
    adv, kl, tau = g.z(), {}, p.get("temperature", 1.0)
    for i in g.tokens:
        row, other = g.t.col("vocab/logits")[i], torch.log_softmax(g.t.col("vocab/ref_logits")[i] / tau, 0)
        there = torch.isfinite(row.detach())
        mine = torch.log_softmax(row[there] / tau, 0)
        kl[i] = (mine.exp() * (mine - other[there])).sum()
    return g.answer(g.ppo(adv), adv, {i: p["beta"] * kl[i] for i in g.tokens}, reduce=seq_mean,
                    metrics=dict(reference_kl=mean(v.detach() for v in kl.values())))


@cases("importance_sampling", (small(7880), {}), (vocab(7881), {"beta": 0.01}))
def importance_sampling(g, p):
    adv = g.centred()
    return no_clip(g, {i: g.ratio[i] * adv[i] for i in g.tokens}, adv, reduce=lambda t, x: total(x.values()))


@cases("prorl_stop", (small(7890), {}), (small(7891), {"stop_coef": 0.4}), (vocab(7892), {"stop_coef": -1.5}), clip_high=0.28)
def prorl_stop(g, p):
    cut, c = g.t.ints("rollout/truncated"), p.get("stop_coef", 0.0)
    shaped = {r: (c * g.reward[r] if c >= 0 else const(c)) if cut[r] else g.reward[r] for r in g.t.rollouts}
    adv = g.spread(z_scores(g.t, shaped, 1e-4))
    return g.answer(g.ppo(adv), adv, metrics=dict(truncated_fraction=mean(cut[r] for r in g.t.rollouts)))


def teacher_rows(seed, **kw):
    b = vocab(seed, max_len=4, groups=(2, 1, 2), **kw)
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, sum(b.rollout_size))
    b.hang("candidate", "token", sizes)
    words = np.concatenate([rng.choice(8, n, replace=False) for n in sizes])
    b.put("candidate/teacher_token", words, np.int64)
    return b.put("candidate/teacher_logp", -rng.gamma(2, 0.8, len(words)))


def forward_kl_topk(table, p):
    t = table.masked()
    _, rows = t.rows["candidate"]
    word, teacher = t.ints("candidate/teacher_token"), t.col("candidate/teacher_logp")
    kl, held = [], []
    for i in t.tokens():
        mine = torch.log_softmax(t.col("vocab/logits")[i] / p.get("temperature", 1.0), 0)
        kl.append(total(torch.exp(teacher[k]) * (teacher[k] - mine[word[k]]) for k in rows[i]))
        held.append(total(torch.exp(teacher[k]) for k in rows[i]))
    return Answer(t, mean(kl), {}, dict(covered=mean(held)))


stdlib_case("recipe_forward_kl_topk", "forward_kl_topk", teacher_rows(7900), forward_kl_topk)
stdlib_case("recipe_forward_kl_topk_2", "forward_kl_topk", teacher_rows(7901), forward_kl_topk, {"temperature": 0.7})


def gkd(table, p):
    t, tau, beta, losses, reverse = table.masked(), p.get("temperature", 1.0), p.get("beta", 0.5), [], []
    word = t.ints("token/action")
    for i in t.tokens():
        s = torch.log_softmax(t.col("vocab/logits")[i] / tau, 0)
        q = torch.log_softmax(t.col("vocab/ref_logits")[i] / tau, 0)
        kl = lambda x, y: (x.exp() * (x - y)).sum()
        m = torch.log(beta * q.exp() + (1 - beta) * s.exp())
        losses.append(kl(q, s) if beta == 0 else kl(s, q) if beta == 1 else beta * kl(q, m) + (1 - beta) * kl(s, m))
        reverse.append((s[word[i]] - q[word[i]]).detach())
    return Answer(t, mean(losses), {}, dict(reverse_kl=mean(reverse)))


for n, given in enumerate(({}, {"beta": 0.0}, {"beta": 1.0}, {"beta": 0.2, "temperature": 1.3})):
    stdlib_case(f"recipe_gkd{n or ''}", "gkd", vocab(7910 + n, max_len=4), gkd, given)
