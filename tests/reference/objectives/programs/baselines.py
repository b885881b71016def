"""The library's baselines: what TRL, verl, OpenRLHF, prime-rl and AReaL ship (recipes C, 2.1 to 2.17)."""

from .common import *


class PG:
    """A policy gradient on the kept tokens: `adv` gives the advantage of token i of rollout r."""

    def __init__(self, table, p, old="token/old_logp", filtered=None):
        self.run = Run(table, p)
        self.t = t = filtered(table) if filtered else self.run.t
        self.p, self.lp = p, self.run.logp
        self.old = t.col(old)
        self.reward = t.col("rollout/reward")
        self.low, self.high = p.get("clip_low", 0.2), p.get("clip_high", 0.2)
        self.tokens = t.tokens()
        self.of = t.rollout_of
        self.ratio = {i: torch.exp(self.lp[i] - self.old[i]) for i in self.tokens}
        self.size = {r: len(t.tokens(r)) for r in range(t.rollout_count)}

    def spread(self, by_rollout):
        """A number per rollout, for each of its tokens."""
        return {i: by_rollout[self.of[i]] for i in self.tokens}

    def z(self, eps=1e-4, singleton_raw=False):
        return self.spread(z_scores(self.t, self.reward, eps, singleton_raw))

    def centred(self, singleton_raw=False):
        out = {}
        for mine in self.t.live_groups:
            above = minus_mean([self.reward[r] for r in mine])
            for r, a in zip(mine, above):
                out[r] = self.reward[r] if singleton_raw and len(mine) == 1 else a
        return self.spread(out)

    def ppo(self, adv, ratio=None):
        ratio = ratio or self.ratio
        return {i: clip_objective(ratio[i], adv[i], self.low, self.high) for i in self.tokens}

    def k3(self):
        beta = self.p.get("beta", 0.0)
        return {i: beta * k3(self.lp[i], self.run.ref[i]) if beta else ZERO for i in self.tokens}

    def clipped(self, adv, ratio=None):
        ratio = ratio or self.ratio
        return mean(is_clipped(ratio[i], adv[i], self.low, self.high) for i in self.tokens)

    def drift(self):
        return mean((self.old[i] - self.lp[i]).detach() for i in self.tokens)

    def answer(self, gained, adv, paid=None, reduce=token_mean, clip=None, coupling="token", extra=0.0, metrics=None,
               values=None, drift=None, grads=None, states=None):
        paid = paid or self.k3()
        losses = {i: paid[i] - gained[i] for i in self.tokens}
        found = dict(clip_fraction=self.clipped(adv) if clip is None else clip,
                     approx_kl=self.drift() if drift is None else drift, **(metrics or {}))
        named = {"token_loss": ("token", losses), **(values or {})}
        return Answer(self.t, reduce(self.t, losses) + extra, named, found, coupling, grads=grads, states=states)


def case(name, batch, settings=None, suffix="", **defaults):
    """Registers a recipe's case; the reference gets a PG and the settings over the defaults."""

    def register(reference):
        def whole(table, p):
            p = {**defaults, **p}
            return reference(PG(table, p), p)

        stdlib_case(f"recipe_{name}{suffix}", name, batch, whole, settings)
        return reference

    return register


def cases(name, *batches, **defaults):
    """The same reference on several (batch, settings)."""

    def register(reference):
        for n, (batch, settings) in enumerate(batches):
            case(name, batch, settings, f"_{n + 1}" if n else "", **defaults)(reference)
        return reference

    return register


def kept_mean(values):
    return mean(const(float(v)) for v in values)


# ---- TRL's loss types and options ----


@cases("luspo", (small(7400), {}), (vocab(7401), {"beta": 0.04, "clip_low": 0.2, "clip_high": 0.3}),
       clip_low=3e-4, clip_high=4e-4)
def luspo(g, p):
    adv, t = g.z(), g.t
    per_rollout, ratios, hits = [], {}, []
    for r in t.rollouts:
        mine = t.tokens(r)
        ratio = torch.exp(mean(g.lp[i] - g.old[i] for i in mine))
        a = z_scores(t, g.reward, 1e-4)[r]
        ratios[r] = ratio
        kl = p.get("beta", 0.0) * mean(k3(g.lp[i], g.run.ref[i]) for i in mine) if p.get("beta") else ZERO
        per_rollout.append(len(mine) * (kl - clip_objective(ratio, a, g.low, g.high)))
        hits.append(is_clipped(ratio, a, g.low, g.high))
    return Answer(t, mean(per_rollout), dict(ratio=("rollout", ratios)),
                  dict(clip_fraction=mean(hits), approx_kl=g.drift()), "rollout")


@cases("gspo_areal", (small(7405), {}), (vocab(7406), {"beta": 0.04, "clip_low": 0.2, "clip_high": 0.3}),
       clip_low=3e-4, clip_high=4e-4)
def gspo_areal(g, p):
    t, z = g.t, z_scores(g.t, g.reward, 1e-4)
    losses, ratios, hits, n = [], {}, [], 0
    for r in t.rollouts:
        mine = t.tokens(r)
        n += len(mine)
        if not mine:
            # Of no tokens the mean advantage is 0, and nothing is clipped.
            ratios[r] = const(1.0)
            hits.append(False)
            continue
        ratio = ratios[r] = torch.exp(mean(g.lp[i] - g.old[i] for i in mine))
        kl = p.get("beta", 0.0) * mean(k3(g.lp[i], g.run.ref[i]) for i in mine) if p.get("beta") else ZERO
        losses.append(len(mine) * (kl - clip_objective(ratio, z[r], g.low, g.high)))
        hits.append(is_clipped(ratio, z[r], g.low, g.high))
    return Answer(t, total(losses) / n, dict(ratio=("rollout", ratios)),
                  dict(clip_fraction=mean(hits), approx_kl=g.drift()), "rollout")


@cases("grpo_openrlhf", (small(7407, wild=0.3), {}), (vocab(7408), {"beta": 0.04, "eps": 0.01}), eps=1e-9)
def grpo_openrlhf(g, p):
    adv = g.z(p["eps"])
    ratio = {i: torch.exp(torch.clamp(g.lp[i] - g.old[i], -20, 20)) for i in g.tokens}
    paid = {i: p["beta"] * torch.clamp(k3(g.lp[i], g.run.ref[i]), -10, 10) if p.get("beta") else ZERO
            for i in g.tokens}
    return g.answer(g.ppo(adv, ratio), adv, paid, clip=g.clipped(adv, ratio))


@cases("vespo", (small(7410), {}), (small(7411, wild=0.3), {"sampler_correction": 1, "beta": 0.03}),
       (vocab(7412), {"k_pos": 1.5, "lambda_neg": 1.0}), k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0)
def vespo(g, p):
    t, adv, phi = g.t, g.z(), {}
    bottom = math.log(1e-8)
    for r in t.rollouts:
        mine = t.tokens(r)
        lw = total(torch.clamp(g.lp[i] - g.old[i], -20, 20) for i in mine)
        if p.get("sampler_correction"):
            lw = lw + total(torch.clamp(g.old[i] - t.col("token/sampler_logp")[i], bottom, 20) for i in mine)
        lw = torch.clamp(lw, bottom, 20)
        a = z_scores(t, g.reward, 1e-4)[r]
        k, lam = (p["k_pos"], p["lambda_pos"]) if a >= 0 else (p["k_neg"], p["lambda_neg"])
        phi[r] = torch.exp(lam + k * lw - lam * torch.exp(lw)).detach()
    gained = {i: phi[g.of[i]] * adv[i] * g.lp[i] for i in g.tokens}
    m = mean(phi.values())
    return g.answer(gained, adv, clip=1 - m, metrics=dict(mean_phi=m), coupling="rollout", values=dict(phi=("rollout", phi)))


@cases("grpo_delta", (small(7420, wild=0.5), {}), (vocab(7421, spread=1.0), {"delta": 1.5, "beta": 0.02}), delta=4.0)
def grpo_delta(g, p):
    adv, gained, hits = g.z(), {}, []
    for i in g.tokens:
        ratio, a = g.ratio[i], adv[i]
        gained[i] = torch.minimum(torch.clamp(ratio, max=p["delta"]) * a, torch.clamp(ratio, 0.8, 1.2) * a)
        x = ratio.item()
        hits.append((x < 0.8 or x > p["delta"]) if a < 0 else is_clipped(ratio, a, 0.2, 0.2))
    return g.answer(gained, adv, reduce=seq_mean, clip=kept_mean(hits))


@cases("off_policy_mask", (small(7430, wild=0.4), {}), (vocab(7431), {"off_policy_threshold": 0.05, "beta": 0.02}),
       off_policy_threshold=0.5)
def off_policy_mask(g, p):
    adv, t, kept = g.z(), g.t, {}
    for r in t.rollouts:
        far = mean(t.col("token/sampler_logp")[i] - g.lp[i].detach() for i in t.tokens(r))
        kept[r] = bool(z_scores(t, g.reward, 1e-4)[r] >= 0) or far.item() <= p["off_policy_threshold"]
    full = g.ppo(adv)
    gained = {i: full[i] if kept[g.of[i]] else ZERO for i in g.tokens}
    return g.answer(gained, adv, reduce=seq_mean, metrics=dict(masked_fraction=kept_mean(not k for k in kept.values())),
                    coupling="rollout")


@cases("high_entropy", (small(7440), {}), (vocab(7441), {"top_entropy_quantile": 0.5}), clip_high=0.28,
       top_entropy_quantile=0.2)
def high_entropy(g, p):
    adv, h = g.z(), g.t.entropy().detach()
    bar = quantile([h[i] for i in g.tokens], 1 - p["top_entropy_quantile"])
    full = g.ppo(adv)
    kept = {i: h[i].item() >= bar.item() for i in g.tokens}
    gained = {i: full[i] if kept[i] else ZERO for i in g.tokens}
    return g.answer(gained, adv, metrics=dict(forking_fraction=kept_mean(kept.values())), coupling="batch")


@cases("entropy_bonus", (small(7450), {}), (vocab(7451), {"entropy_coef": 0.05}), entropy_coef=0.01)
def entropy_bonus(g, p):
    h = mean(g.t.entropy()[i] for i in g.tokens)
    adv = g.z()
    return g.answer(g.ppo(adv), adv, reduce=seq_mean, extra=-p["entropy_coef"] * h, metrics=dict(mean_entropy=h.detach()))


def adaptive(last, coef):
    def reference(table, p):
        g = PG(table, p)
        h = mean(g.t.entropy()[i] for i in g.tokens)
        adv = g.z()
        target = p.get("entropy_target", 0.2)
        applied = coef if last <= target else 0.0
        fresh = min(max(coef + (0.005 if h.item() <= target else -0.005), 0.0), 1.0)
        return g.answer(g.ppo(adv), adv, reduce=seq_mean, extra=-applied * h, metrics=dict(applied_coef=applied),
                        states=dict(entropy_coef=fresh, last_entropy=h.detach()))

    return reference


def held(batch, last, coef):
    return batch.put("state/entropy_coef", [coef], np.float64).put("state/last_entropy", [last], np.float64)


stdlib_case("recipe_adaptive_entropy", "adaptive_entropy", small(7460), adaptive(math.inf, 0.0))
stdlib_case("recipe_adaptive_entropy_on", "adaptive_entropy", held(vocab(7461), 0.15, 0.02), adaptive(0.15, 0.02))
stdlib_case("recipe_adaptive_entropy_low", "adaptive_entropy", held(small(7462), 5.0, 0.998), adaptive(5.0, 0.998),
            {"entropy_target": 9.0})


@cases("grpo_batch_std", (small(7470, equal_group=0), {}), (vocab(7471), {"beta": 0.04}))
def grpo_batch_std(g, p):
    sd = deviation([g.reward[r] for r in g.t.rollouts])
    adv = {i: a / (sd + 1e-4) for i, a in g.centred().items()}
    return g.answer(g.ppo(adv), adv, reduce=seq_mean)


def mask_truncated(table, p):
    cut = table.ints("rollout/truncated")
    mask = table.ints("token/mask")
    g = PG(table, p, filtered=lambda t: t.keep_tokens(lambda i: mask[i] and not cut[t.rollout_of[i]]))
    adv = g.z()
    return g.answer(g.ppo(adv), adv, reduce=seq_mean)


stdlib_case("recipe_mask_truncated", "mask_truncated", small(7480, groups=(3, 1, 4)), mask_truncated)


def dapo_full(table, p):
    p = {"max_length": 20480, "overlong_buffer": 4096, "overlong_factor": 1.0, "cap": 0, "clip_high": 0.28, **p}
    reward = table.col("rollout/reward")
    mixed = lambda k: len({reward[r].item() for r in table.groups[k]}) > 1
    g = PG(table, p, filtered=lambda t: t.masked().keep_groups(mixed))
    price = {}
    for r in g.t.rollouts:
        excess = max(len(table.all_tokens[r]) - (p["max_length"] - p["overlong_buffer"]), 0) / p["overlong_buffer"]
        price[r] = p["overlong_factor"] * (min(excess, 1.0) if p["cap"] else excess)
    adv = g.spread(z_scores(g.t, {r: reward[r] - price[r] for r in g.t.rollouts}, 1e-4))
    return g.answer(g.ppo(adv), adv, metrics=dict(overlong_price=mean(const(v) for v in price.values())))


for n, given in enumerate(({}, {"max_length": 5, "overlong_buffer": 3}, {"max_length": 3, "overlong_buffer": 2, "cap": 1})):
    stdlib_case(f"recipe_dapo_full{n or ''}", "dapo_full", small(7490 + n, groups=(3, 2, 1, 4), equal_group=1), dapo_full, given)


# ---- verl's advantages ----


def low_var_kl(lp, ref):
    gap = torch.clamp(ref - lp, -20, 20)
    return torch.clamp(torch.exp(gap) - gap - 1, -10, 10)


def dual(g, adv, ratio, c):
    out = {}
    for i, s in g.ppo(adv, ratio).items():
        out[i] = torch.maximum(s, c * adv[i]) if adv[i] < 0 else s
    return out


@cases("grpo_verl", (small(7500, wild=0.6), {}), (vocab(7501), {"beta": 0.001, "clip_ratio_c": 1.5}), clip_ratio_c=3.0)
def grpo_verl(g, p):
    adv = g.z(1e-6, singleton_raw=True)
    ratio = {i: torch.exp(torch.clamp(g.lp[i] - g.old[i], -20, 20)) for i in g.tokens}
    paid = {i: p.get("beta", 0.0) * low_var_kl(g.lp[i], g.run.ref[i]) for i in g.tokens} if p.get("beta") else None
    hit = kept_mean(adv[i] < 0 and ratio[i].item() > p["clip_ratio_c"] for i in g.tokens)
    return g.answer(dual(g, adv, ratio, p["clip_ratio_c"]), adv, paid, metrics=dict(dual_clip_fraction=hit))


@cases("rloo_verl", (small(7510), {}), (small(7511), {"singleton_zero": 1}))
def rloo_verl(g, p):
    adv = {}
    for mine in g.t.live_groups:
        for r in mine:
            others = [g.reward[k] for k in mine if k != r]
            adv[r] = g.reward[r] - mean(others) if others else (ZERO if p.get("singleton_zero") else g.reward[r])
    adv = g.spread(adv)
    return g.answer(g.ppo(adv), adv)


@cases("grpo_passk", (small(7520, groups=(4, 1, 2, 3), equal_group=2), {}), (vocab(7521, groups=(3, 2)), {"by_std": 0}))
def grpo_passk(g, p):
    adv = {r: ZERO for r in g.t.rollouts}
    for mine in g.t.live_groups:
        if len(mine) < 2:
            continue
        best = max(mine, key=lambda r: (g.reward[r].item(), -r))
        second = max(g.reward[r].item() for r in mine if r != best)
        adv[best] = (g.reward[best] - second) / ((deviation([g.reward[r] for r in mine]) + 1e-6) if p.get("by_std", 1) else 1.0)
    adv = g.spread(adv)
    return g.answer(g.ppo(adv), adv)


def whiten(x, tokens, ddof=1, eps=1e-8):
    xs = [x[i] for i in tokens]
    spread = torch.sqrt(variance(xs, ddof) + eps)
    return {i: (v) / spread for i, v in zip(tokens, minus_mean(xs))}


@cases("reinforce_pp_baseline", (small(7530), {}), (vocab(7531), {"beta": 0.01}))
def reinforce_pp_baseline(g, p):
    adv = whiten(g.centred(singleton_raw=True), g.tokens)
    return g.answer(g.ppo(adv), adv)


def to_go(t, paid, gamma=1.0):
    out = {}
    for r in t.rollouts:
        carried = ZERO
        for i in reversed(t.tokens(r)):
            carried = paid[i] + gamma * carried
            out[i] = carried
    return out


def at_the_end(g, reward=None):
    paid = {i: ZERO for i in g.tokens}
    for r in g.t.rollouts:
        if g.t.tokens(r):
            paid[g.t.tokens(r)[-1]] = (reward or (lambda r: g.reward[r]))(r)
    return paid


@cases("reinforce_pp_gamma", (small(7535), {}), (vocab(7536), {"gamma": 0.7, "per_token": 1}), gamma=0.99)
def reinforce_pp_gamma(g, p):
    ret = to_go(g.t, g.t.col("token/token_reward") if p.get("per_token") else at_the_end(g), p["gamma"])
    adv = whiten(ret, g.tokens)
    return g.answer(g.ppo(adv), adv, values=dict(ret=("token", ret)))


def with_greedy(seed, make=small):
    b = make(seed)
    return b.put("rollout/greedy", np.random.default_rng(seed).choice([0.0, 0.5, 1.0], len(b.rollout_size)))


@cases("remax", (with_greedy(7540), {}), (with_greedy(7541, vocab), {"per_token": 1}))
def remax(g, p):
    ret = to_go(g.t, g.t.col("token/token_reward") if p.get("per_token") else at_the_end(g))
    adv = {i: ret[i] - g.t.col("rollout/greedy")[g.of[i]] for i in g.tokens}
    return g.answer(g.ppo(adv), adv)


@cases("gpg", (small(7550), {}), (vocab(7551), {"by_group": 1, "f_norm": 2.0, "beta": 0.03}),
       (small(7552), {"by_group": 1}))
def gpg(g, p):
    rollouts = g.t.rollouts
    if p.get("by_group"):
        count = sum(len(mine) for mine in g.t.live_groups if len({g.reward[r].item() for r in mine}) > 1)
    else:
        count = sum(g.reward[r].item() != 0 for r in rollouts)
    factor = len(rollouts) / max(count, 1) / p.get("f_norm", 1.0)
    adv = {i: factor * a for i, a in g.centred(singleton_raw=True).items()}
    return g.answer({i: adv[i] * g.lp[i] for i in g.tokens}, adv, clip=0.0)


@cases("opo", (small(7560), {}), (vocab(7561), {"beta": 0.02}))
def opo(g, p):
    adv = {}
    for mine in g.t.live_groups:
        weight = sum(g.size[r] for r in mine)
        b = total(g.size[r] * g.reward[r] for r in mine) / weight if weight and len(mine) > 1 else ZERO
        adv.update({r: g.reward[r] - b for r in mine})
    adv = g.spread(adv)
    return g.answer(g.ppo(adv), adv)


def with_collision(seed, **kw):
    b = small(seed, **{"groups": (3, 1, 4, 2), "max_len": 7, **kw})
    return b.put("token/sum_pi_squared", np.random.default_rng(seed).uniform(0.05, 0.9, sum(b.rollout_size)))


def token_baseline(compact):
    def reference(g, p):
        t, energy, place = g.t, {}, {}
        ret = to_go(t, t.col("token/token_reward") if p.get("per_token") else at_the_end(g))
        p2, samp = t.col("token/sum_pi_squared"), t.col("token/sampler_logp")
        for r in t.rollouts:
            gathered = ZERO
            for k, i in enumerate(t.tokens(r)):
                is_w = min(math.exp(g.old[i] - samp[i]), 2.0) if p.get("is_weighted") else 1.0
                gathered = gathered + (1 - 2 * torch.exp(g.old[i]) + p2[i]) * is_w ** 2
                energy[i] = gathered
                place[i] = k if compact else t.all_tokens[r].index(i)
        adv = {}
        for mine in t.live_groups:
            sizes = sorted((g.size[r] for r in mine), reverse=True)
            for r in mine:
                for i in t.tokens(r):
                    here = [j for k in mine for j in t.tokens(k) if place[j] == place[i]]
                    b = total(ret[j] * energy[j] for j in here) / (total(energy[j] for j in here) + 1e-8)
                    tail = len(mine) > 1 and g.size[r] == sizes[0] > sizes[1] and place[i] >= sizes[1]
                    adv[i] = ret[i] - (ZERO if len(mine) == 1 or tail else b)
        return g.answer(g.ppo(adv), adv, values=dict(advantage=("token", adv)))

    return reference


OTB = [(with_collision(7570), {}), (with_collision(7571), {"per_token": 1, "is_weighted": 1})]
cases("optimal_token_baseline", *OTB)(token_baseline(False))
cases("tir_optimal_token_baseline", *OTB)(token_baseline(True))


def several(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    for k in (1, 2, 3):
        b.put(f"rollout/rewards.{k}", rng.choice([0.0, 0.5, 1.0], len(b.rollout_size)))
    return b


def gaps(b, seed):
    """Every third reward of each kind missing, more or less: whole groups too."""
    rng = np.random.default_rng(seed)
    for k in (1, 2, 3):
        x = np.array(b.columns[f"rollout/rewards.{k}"], dtype=np.float64)
        x[rng.random(len(x)) < 0.35] = np.nan
        b.put(f"rollout/rewards.{k}", x)
    return b


@cases("gdpo_rewards", (several(7580), {}), (several(7581), {"token_whitening": 1, "weights.2": 0.5}),
       (several(7583, vocab=6), {"weights.1": 2.0, "weights.3": 0.0}), (gaps(several(7584), 1), {}),
       (gaps(several(7585), 2), {"token_whitening": 1}))
def gdpo_rewards(g, p):
    t, verl = g.t, p.get("token_whitening")
    score = {r: ZERO for r in t.rollouts}
    for k in (1, 2, 3):
        x, eps = t.col(f"rollout/rewards.{k}"), 1e-6 if verl else 1e-4
        for mine in t.live_groups:
            there = [r for r in mine if not math.isnan(float(x[r]))]
            if not there:
                continue
            m, sd = mean(x[r] for r in there), deviation([x[r] for r in there])
            for r in there:
                z = x[r] / (1 + eps) if verl and len(there) == 1 else (x[r] - m) / (sd + eps)
                score[r] = score[r] + p.get(f"weights.{k}", 1.0) * z
    if verl:
        adv = whiten(g.spread(score), g.tokens)
    else:
        m, sd = mean(score.values()), deviation(list(score.values()))
        adv = g.spread({r: (v - m) / (sd + 1e-4) for r, v in score.items()})
    return g.answer(g.ppo(adv), adv, reduce=seq_mean)


# ---- PPO with a critic ----


def ppo_parts(g, p, paid, lam=None):
    """(surprise per token, GAE, return)"""
    t, old_v, gae, lead = g.t, g.t.col("token/old_value"), {}, {}
    for r in t.rollouts:
        carried, following = ZERO, ZERO
        for i in reversed(t.tokens(r)):
            lead[i] = paid[i] + p.get("gamma", 1.0) * following - old_v[i]
            carried = lead[i] + p.get("gamma", 1.0) * p.get("lam", 1.0) * carried
            gae[i], following = carried, old_v[i]
    return lead, gae, {i: gae[i] + old_v[i] for i in g.tokens}


def critic(g, ret, c):
    v, old_v = g.t.col("token/value"), g.t.col("token/old_value")
    parts = []
    for i in g.tokens:
        moved = torch.minimum(torch.maximum(v[i], old_v[i] - c), old_v[i] + c)
        parts.append(torch.maximum((v[i] - ret[i]) ** 2, (moved - ret[i]) ** 2))
    return mean(parts) / 2


def ppo(g, p, price=None, adaptive=False):
    price = p.get("kl_coef", 0.0) if price is None else price
    paid = at_the_end(g)
    if price:
        paid = {i: paid[i] - price * (g.old[i] - g.run.ref[i]) for i in g.tokens}
    _, gae, ret = ppo_parts(g, p, paid)
    adv = whiten(gae, g.tokens)
    loss = critic(g, ret, p.get("cliprange_value", 0.5))
    return g.answer(dual(g, adv, g.ratio, p.get("clip_ratio_c", 3.0)), adv, extra=p.get("vf_coef", 1.0) * loss,
                    metrics=dict(critic_loss=loss.detach()), values=dict(gae=("token", gae), ret=("token", ret)))


cases("ppo", (small(7600), {}), (vocab(7601, wild=0.3), {"gamma": 0.95, "lam": 0.9, "kl_coef": 0.05, "vf_coef": 0.1,
      "clip_ratio_c": 1.5, "cliprange_value": 0.2}), (small(7602), {"lam": 0.0}))(ppo)


def adaptive_kl(growth):
    def reference(g, p):
        price = 0.001 * growth
        found = ppo(g, p, price)
        kl = mean(mean(g.old[i] - g.run.ref[i] for i in g.t.tokens(r)) for r in g.t.rollouts).item()
        step = min(max(kl / p.get("target_kl", 0.1) - 1, -0.2), 0.2) * len(g.t.rollouts) / p.get("horizon", 10000)
        found.metrics["kl_price"] = price
        found.states = dict(growth=growth * (1 + step))
        return found

    return reference


case("ppo_adaptive_kl", small(7610))(adaptive_kl(1.0))
case("ppo_adaptive_kl", small(7611).put("state/growth", [40.0], np.float64), {"horizon": 50, "target_kl": 1.0}, "_2")(adaptive_kl(40.0))


@cases("vapo", (small(7620, max_len=9), {"alpha": 0.4}), (vocab(7621), {"mu": 0.3, "lam": 0.9}), clip_high=0.28, alpha=0.05, mu=0.1)
def vapo(g, p):
    lead, _, ret = ppo_parts(g, p, at_the_end(g))
    gae = {}
    for r in g.t.rollouts:
        lam, carried = max(1 - 1 / (p["alpha"] * max(g.size[r], 1e-9)), 0.0), ZERO
        for i in reversed(g.t.tokens(r)):
            carried = lead[i] + p.get("gamma", 1.0) * lam * carried
            gae[i] = carried
    adv = whiten(gae, g.tokens)
    loss = critic(g, ret, 0.5)
    nll = -mean(g.lp[i] for i in g.tokens if g.reward[g.of[i]] > 0)
    return g.answer(dual(g, adv, g.ratio, 3.0), adv, extra=loss + p["mu"] * nll, metrics=dict(critic_loss=loss.detach()))


def ppo_openrlhf(table, p):
    p = {"kl_coef": 0.01, "reward_clip": 10.0, "vf_coef": 1.0, **p}
    mask = table.ints("token/mask")
    g = PG(table, p, filtered=lambda t: t)
    paid = {i: ZERO for i in g.tokens}
    for r in g.t.rollouts:
        written = [i for i in g.t.tokens(r) if mask[i]]
        for i in written:
            paid[i] = -p["kl_coef"] * torch.clamp(g.old[i] - g.run.ref[i], -10, 10)
        for i in written[-1:]:
            paid[i] = paid[i] + torch.clamp(g.reward[r], -p["reward_clip"], p["reward_clip"])
    _, gae, ret = ppo_parts(g, p, paid)
    mine = [i for i in g.tokens if mask[i]]
    xs = [gae[i] for i in mine]
    sd = torch.sqrt(torch.clamp(variance(xs, 0), min=1e-8))
    adv = {i: (gae[i] - mean(xs)) / sd for i in g.tokens}
    full, everywhere = g.ppo(adv), g.tokens
    g.tokens = mine
    loss = critic(g, ret, 0.5)
    found = g.answer(full, adv, extra=p["vf_coef"] * loss, metrics=dict(critic_loss=loss.detach()))
    found.values["token_loss"] = ("token", {i: -full[i] for i in everywhere})
    return found


stdlib_case("recipe_ppo_openrlhf", "ppo_openrlhf", small(7625, max_len=8), ppo_openrlhf)
stdlib_case("recipe_ppo_openrlhf_2", "ppo_openrlhf", vocab(7626), ppo_openrlhf,
            {"gamma": 0.95, "lam": 0.9, "kl_coef": 0.3, "reward_clip": 0.5, "vf_coef": 0.1})
ends_outside = small(7627, max_len=8)
ends_outside.columns["token/mask"][np.cumsum(ends_outside.rollout_size)[::2] - 1] = 0
stdlib_case("recipe_ppo_openrlhf_3", "ppo_openrlhf", ends_outside, ppo_openrlhf, {"kl_coef": 0.1, "lam": 0.8})


@cases("reinforce_pp_openrlhf", (small(7630), {}), (vocab(7631), {"gamma": 0.9, "kl_coef": 0.2, "reward_clip": 0.5}),
       (small(7632), {"baseline": 1, "reward_clip": 0.4}), (small(7633), {"baseline": 2, "kl_coef": 0.2}),
       kl_coef=0.01, reward_clip=10.0)
def reinforce_pp_openrlhf(g, p):
    c, kind, compared = p["reward_clip"], p.get("baseline", 0), {}
    for mine in g.t.live_groups:
        for r in mine:
            others = [g.reward[k] for k in mine if k != r]
            compared[r] = g.reward[r] - (0.0 if kind == 0 else mean(g.reward[k] for k in mine) if kind == 1 else mean(others))
    paid = at_the_end(g, lambda r: torch.clamp(compared[r], -c, c))
    paid = {i: paid[i] - p["kl_coef"] * torch.clamp(g.old[i] - g.run.ref[i], -10, 10) for i in g.tokens}
    ret = to_go(g.t, paid, p.get("gamma", 1.0))
    xs = [ret[i] for i in g.tokens]
    sd = torch.sqrt(torch.clamp(variance(xs, 0), min=1e-8))
    adv = ret if kind == 2 else {i: (ret[i] - mean(xs)) / sd for i in g.tokens}
    return g.answer(g.ppo(adv), adv, values=dict(ret=("token", ret)))


@cases("grpo_nemo", (small(7640, groups=(4, 1, 2, 3, 3), equal_group=4), {}), (vocab(7641, groups=(3, 4)), {"beta": 0.5}),
       (small(7642), {"normalize": False, "beta": 0.0}), beta=0.01)
def grpo_nemo(g, p):
    adv = {}
    for mine in g.t.live_groups:
        for r in mine:
            others = [g.reward[k] for k in mine if k != r]
            alike = all(o.item() == others[0].item() for o in others)
            adv[r] = g.reward[r] - (others[0] if alike else mean(others)) if others else ZERO
            if p.get("normalize", True) and not alike:
                adv[r] = adv[r] / (torch.sqrt(variance(others, 1)) + 1e-6)
    adv = g.spread(adv)
    paid = {i: p["beta"] * torch.clamp(k3(g.lp[i], g.run.ref[i]) * torch.exp(g.lp[i] - g.lp[i].detach()), -10, 10)
            for i in g.tokens} if p["beta"] else None
    return g.answer(g.ppo(adv), adv, paid)
