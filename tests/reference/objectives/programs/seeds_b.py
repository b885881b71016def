"""Recipes of the second seed list: objectives over rollouts and their tokens."""

from .common import *


def numbers(settings):
    """Truth values as 0 and 1, infinity as text: what a case's description can hold."""
    return {k: int(v) if isinstance(v, bool) else "inf" if v == math.inf else v for k, v in settings.items()}


def recipe(name, batches, **defaults):
    """A library recipe on several batches: {suffix: batch or (batch, settings)}, beside its reference."""

    def register(reference):
        def answer(table, settings):
            read = {k: math.inf if v == "inf" else v for k, v in settings.items()}
            return reference(table, {**defaults, **read})

        for suffix, batch in batches.items():
            batch, settings = batch if isinstance(batch, tuple) else (batch, {})
            stdlib_case(f"recipe_{name}{suffix}", name, batch, answer, numbers(settings))
        return answer

    return register


def worked(name, suffix, batch, reference, printed, settings=None):
    """A worked number of the recipe text: the reference has to print it too."""

    def checked(table, settings):
        answer = reference(table, settings)
        for value, numbers in printed(answer):
            value = [float(v) for v in value]
            assert np.allclose(value, numbers, atol=6e-5), (name, value, numbers)
        return answer

    stdlib_case(f"recipe_{name}_worked{suffix}", name, batch, checked, numbers(settings or {}))


def flat(groups, lengths, seed=3, **columns):
    """A small batch in float64 with given rollout columns."""
    b, n = Batch(groups, lengths), sum(lengths)
    rng = np.random.default_rng(seed)
    lp = -rng.gamma(1.2, 0.9, n)
    b.put("token/logp", lp, np.float64).put("token/old_logp", lp - rng.normal(0, 0.2, n), np.float64)
    for column, values in columns.items():
        b.put(column.replace("__", "/"), values, np.float64)
    return b


@rebuildable
def binary(seed, **kw):
    """Right and wrong rollouts, a group all right, one all wrong, one of a single rollout."""
    b = small(seed, **{"groups": (4, 2, 1, 3, 2), "max_len": 5, **kw})
    rng, first = np.random.default_rng(seed), 0
    reward = (rng.random(len(b.rollout_size)) < 0.5).astype(np.float64)
    for g, size in enumerate(b.group_size):
        mine = slice(first, first + size)
        if g == 0:
            reward[first], reward[first + 1] = 1, 0
        if g == 1:
            reward[mine] = 1
        if g == len(b.group_size) - 1:
            reward[mine] = 0
        first += size
    keep_small(b)
    return b.put("rollout/reward", reward).put("rollout/correct", reward, np.uint8)


def keep_small(b):
    """Columns that no recipe here reads take room in the repository."""
    for name in ("token/sampler_logp", "token/value", "token/old_value", "token/token_reward", "turn/step_correct",
                 "turn/step_reward", "rollout/truncated", "vocab/ref_logits"):
        b.columns.pop(name, None)
    return b


@rebuildable
def plain(seed, **kw):
    return keep_small(small(seed, **{"groups": (4, 1, 3, 2), "equal_group": 3, "max_len": 5, **kw}))


def centred(t, x):
    """x less its group's mean: {rollout: value}"""
    return {r: v for rs in t.live_groups for r, v in zip(rs, minus_mean([x[r] for r in rs]))}


def normed(t, x, eps, ddof=1):
    above = centred(t, x)
    return {r: above[r] / (deviation([x[q] for q in rs], ddof) + eps) for rs in t.live_groups for r in rs}


def dual_clip(ratio, a, low, high, c):
    """The objective to be maximised, with absolute bounds low and high."""
    a = const(a)
    out = torch.minimum(ratio * a, torch.clamp(ratio, low, high) * a)
    return torch.maximum(out, c * a) if a.item() < 0 else out


class Policy:
    """What a policy-gradient recipe adds up: log-ratios, ratios, clipped objectives, a KL."""

    def __init__(self, t, p, logp=None, old=None):
        self.t, self.p = t, p
        self.lp = t.logp(p.get("temperature", 1.0)) if logp is None else logp
        self.old = t.col("token/old_logp") if old is None else old
        self.ratio = {i: torch.exp(self.lp[i] - self.old[i]) for i in t.tokens()}

    def credit(self, adv, level):
        return adv if level == "token" else {i: adv[self.t.rollout_of[i]] for i in self.t.tokens()}

    def losses(self, adv, level="rollout", ref=None, dual=None):
        p, credit, out = self.p, self.credit(adv, level), {}
        for i in self.t.tokens():
            if dual is None:
                out[i] = -clip_objective(self.ratio[i], const(credit[i]), p["clip_low"], p["clip_high"])
            else:
                out[i] = -dual_clip(self.ratio[i], credit[i], 1 - p["clip_low"], 1 + p["clip_high"], dual)
            if p.get("beta"):
                column = self.t.col("token/ref_logp") if ref is None else ref
                out[i] = out[i] + p["beta"] * k3(self.lp[i], column[i])
        return out

    def clipped(self, adv, level="rollout"):
        credit = self.credit(adv, level)
        return {i: is_clipped(self.ratio[i], credit[i], self.p["clip_low"], self.p["clip_high"]) for i in self.t.tokens()}

    def approx_kl(self):
        return float(mean((self.old[i] - self.lp[i]).detach() for i in self.t.tokens()))

    def answer(self, adv, loss, metrics=None, values=None, level="rollout", coupling="token", states=None):
        found = {"clip_fraction": mean(const(v) for v in self.clipped(adv, level).values()),
                 "approx_kl": self.approx_kl(), **(metrics or {})}
        values = {"advantage": (level, adv), "ratio": ("token", self.ratio), **(values or {})}
        return Answer(self.t, loss, values, found, coupling, states=states)


def share(flags):
    flags = [const(float(f)) for f in flags]
    return mean(flags)


# ---- GTPO ----


def floored_entropy(t):
    if not t.has("vocab/logits"):
        return t.col("token/entropy")
    rows = torch.softmax(t.col("vocab/logits"), -1)
    return -(rows * torch.log(torch.clamp(rows, min=1e-6))).sum(-1)


@rebuildable
def echoes(seed, **kw):
    """Few different tokens, so that rollouts begin and end alike; low entropies and high ones."""
    b = plain(seed, **{"groups": (5, 1, 4, 2), "max_len": 6, "one_token": False, **kw})
    n = sum(b.rollout_size)
    rng = np.random.default_rng(seed)
    if "vocab/logits" not in b.columns:
        b.put("token/entropy", rng.uniform(0, 1.4, n)).put("token/action", rng.integers(0, 2, n), np.int64)
    return b


@recipe("gtpo", {"": echoes(7001), "_logits": echoes(7002, vocab=4), "_set": (echoes(7003), dict(
    entropy_max=0.9, entropy_penalty=0.3, conflict_gain=1.5))}, entropy_max=0.7, entropy_penalty=0.1, conflict_gain=2.0)
def gtpo(table, p):
    t = table.masked()
    lp, old, action, h = t.logp(), t.col("token/old_logp"), t.ints("token/action"), floored_entropy(t).detach()
    pull, place = centred(t, t.col("rollout/reward")), positions(t)
    adv, weight, losses, conflict = {}, {}, [], []
    for rs in t.live_groups:
        ends = {r: max([place[i] for i in t.tokens(r)], default=0) for r in rs}

        def clash(i, r, where):
            def seen(sign):
                return any(action[j] == action[i] and where(j, q) == where(i, r)
                           for q in rs if sign * pull[q].item() > 0 for j in t.tokens(q))

            return pull[r].item() != 0 and seen(1) and seen(-1)

        for r in rs:
            entropy = mean(h[i] for i in t.tokens(r))
            adv[r] = pull[r] - p["entropy_penalty"] * entropy if entropy <= p["entropy_max"] else ZERO
            runs_ = []
            for order, where in ((1, lambda j, q: place[j]), (-1, lambda j, q: ends[q] - place[j])):
                run, unbroken = {}, True
                for i in t.tokens(r)[::order]:
                    unbroken = unbroken and clash(i, r, where)
                    run[i] = unbroken
                runs_.append(run)
            either = [i for i in t.tokens(r) if runs_[0][i] or runs_[1][i]]
            conflict += [i in either for i in t.tokens(r)]
            mine = []
            for i in t.tokens(r):
                weight[i] = 1.0
                for run in runs_:
                    if run[i]:
                        weight[i] *= p["conflict_gain"] if pull[r] > 0 else 0
                mine.append(-torch.exp(lp[i] - lp[i].detach()) * adv[r] * weight[i])
            losses.append(mean(mine) / max(1, len(either)))
    silent = [weight[i] == 0 or float(adv[t.rollout_of[i]]) == 0 for i in t.tokens()]
    kl = mean((old[i] - lp[i]).detach() for i in t.tokens())
    answer = Answer(t, total(losses), dict(advantage=("rollout", adv), weight=("token", weight)),
                    dict(clip_fraction=share(silent), conflict_share=share(conflict), approx_kl=kl), "rollout")
    answer.parts = losses
    return answer


texts = ["ABCE", "ADCE", "ABFE", "AXFZ"]
conflicts = flat([4], [4] * 4, rollout__reward=[1, 1, 0, 0], token__entropy=np.repeat([0.3, 0.5, 0.4, 0.9], 4))
conflicts.put("token/action", [ord(c) for text in texts for c in text], np.int64)
worked("gtpo", "", conflicts, gtpo, lambda a: [
    (a.values["advantage"][1].values(), [0.47, 0.45, -0.54, 0]),
    (a.values["weight"][1].values(), [2, 2, 1, 2, 2, 1, 1, 2, 0, 0, 1, 0, 0, 1, 1, 1]),
    (a.parts, [-0.2742, -0.3375, 0.0450, 0]), ([a.loss], [-0.5667])])


# ---- XRPO, GRPO-lambda, NGRPO, ReST-GRPO, Syn-GRPO: other rewards and advantages ----


@recipe("xrpo", {"": plain(7014), "_logits": plain(7011, vocab=5), "_set": (plain(7012), dict(
    correct_only=False, lam=1.0, kappa=0.2))}, clip_low=0.2, clip_high=0.2, lam=2.5, kappa=0.5, correct_only=True)
def xrpo(table, p):
    t = table.masked()
    run, raw = Policy(t, p), normed(t, t.col("rollout/reward"), 1e-4)
    s = {r: mean(run.old[i] for i in t.tokens(r)) for r in t.rollouts}
    adv = {}
    for rs in t.live_groups:
        middle = mean(s[r] for r in rs)
        for r in rs:
            gain = min(max(p["lam"] * (1 - math.exp(s[r] - middle)), 0), p["kappa"] * abs(raw[r].item()))
            adv[r] = raw[r] if p["correct_only"] and raw[r] <= 0 else raw[r] + gain
    return run.answer(adv, seq_mean(t, run.losses(adv)), {"sharpened": share(adv[r] > raw[r] for r in t.rollouts)})


novel = flat([4], [1] * 4, rollout__reward=[1, 1, 0, 0], token__old_logp=[-0.2, -0.6, -0.3, -0.5])
# The recipe prints the limit of a small eps; ours is 1e-4.
worked("xrpo", "", novel, xrpo, lambda a: [
    ([v * (1 + 1e-4 / 0.57735) for v in a.values["advantage"][1].values()], [0.8660, 1.2990, -0.8660, -0.8660])])


@recipe("grpo_lambda", {"": binary(7020), "_logits": binary(7021, vocab=5), "_set": (binary(7022), dict(
    lam=0.5, alpha=0.2)), "_ties": (binary(7023, groups=(2, 2, 2, 2)), dict(lam=0.6))},
    clip_low=0.2, clip_high=0.2, lam=0.2, alpha=0.6)
def grpo_lambda(table, p):
    t = table.masked()
    run, right = Policy(t, p), t.ints("rollout/correct")
    size = {r: len(t.tokens(r)) for r in t.rollouts}
    accuracy = [sum(right[r] for r in rs) / len(rs) for rs in t.live_groups]
    top = sorted(range(len(accuracy)), key=lambda g: -accuracy[g])[: max(1, math.ceil(p["lam"] * len(accuracy)))]
    shaped = {}
    for g, rs in enumerate(t.live_groups):
        lengths = [const(size[r]) for r in rs if right[r]]
        spread = max(deviation(lengths, 0).item(), 1e-4)
        for r in rs:
            cost = p["alpha"] / (1 + math.exp(-(size[r] - mean(lengths).item()) / spread)) if right[r] and g in top else 0
            shaped[r] = const(right[r] * (1 - cost))
    adv = normed(t, shaped, 1e-4)
    metrics = dict(right_length=mean(const(size[r]) for r in t.rollouts if right[r]),
                   efficient_accuracy=min(accuracy[g] for g in top))
    return run.answer(adv, seq_mean(t, run.losses(adv)), metrics, {"shaped": ("rollout", shaped)})


short = flat([4], [1, 2, 3, 2], rollout__reward=[0] * 4).put("rollout/correct", [1, 1, 1, 0], np.uint8)
worked("grpo_lambda", "", short, grpo_lambda, lambda a: [
    (a.values["shaped"][1].values(), [0.9546, 0.9, 0.8454, 0]),
    ([v * (1 + 1e-4 / 0.4525) for v in a.values["advantage"][1].values()], [0.6183, 0.4976, 0.3769, -1.4927])],
    {"alpha": 0.2})


def virtual_std(rewards, v, best):
    everyone = list(rewards) + [const(best)] * v
    centre = mean(everyone)
    return centre, variance(everyone).sqrt() if len(everyone) > 1 else ZERO


@recipe("ngrpo", {"": binary(7030), "_logits": binary(7031, vocab=5), "_set": (binary(7032), dict(
    virtual=2, r_max=1.2, beta=0.02)), "_all": (binary(7033), dict(drop_solved=False)),
    "_none": (plain(7034), dict(virtual=0, drop_solved=False))},
    clip_low=0.16, clip_high=0.24, virtual=1, r_max=1.0, drop_solved=True, beta=0.0)
def ngrpo(table, p):
    t = table.masked()
    reward = t.col("rollout/reward")
    if p["drop_solved"]:
        t = t.keep_groups(lambda g: any(reward[r] < p["r_max"] for r in t.groups[g]))
    run, adv = Policy(t, p), {}
    for rs in t.live_groups:
        centre, spread = virtual_std([reward[r] for r in rs], p["virtual"], p["r_max"])
        adv.update({r: (reward[r] - centre) / (spread + 1e-6) for r in rs})
    same = share(len({reward[r].item() for r in rs}) == 1 for rs in t.live_groups)
    return run.answer(adv, token_mean(t, run.losses(adv)), {"uniform_groups": same})


for suffix, rewards, printed in (("_wrong", [0] * 4, [-0.4472] * 4), ("_wrong8", [0] * 8, [-0.3333] * 8),
                                 ("_mixed", [1, 0, 0, 0], [1.0954, -0.7303, -0.7303, -0.7303])):
    worked("ngrpo", suffix, flat([len(rewards)], [1] * len(rewards), rollout__reward=rewards), ngrpo,
           lambda a, printed=printed: [(a.values["advantage"][1].values(), printed)])
worked("ngrpo", "_right", flat([4], [1] * 4, rollout__reward=[1] * 4), ngrpo,
       lambda a: [(a.values["advantage"][1].values(), [0] * 4)], {"drop_solved": False})


@recipe("rest_grpo", {"": plain(7040), "_logits": plain(7041, vocab=5), "_set": (plain(7042), dict(
    beta=0.2, min_std=0.3))}, clip_low=0.2, clip_high=0.2, beta=0.04, min_std=0.05)
def rest_grpo(table, p):
    t = table.masked()
    run, reward = Policy(t, p), t.col("rollout/reward")
    adv = normed(t, reward, 1e-4)
    kept = {g: float(deviation([reward[r] for r in rs], 0) >= p["min_std"]) for g, rs in enumerate(t.live_groups)}
    return run.answer(adv, token_mean(t, run.losses(adv)), {"kept_prompts": share(kept.values())},
                      {"prompt_weight": ("group", kept)})


@rebuildable
def described(seed, **kw):
    b = plain(seed, **kw)
    rng, n = np.random.default_rng(seed), len(b.rollout_size)
    b.put("rollout/accuracy", rng.choice([0, 0.5, 1], n))
    b.put("rollout/produced_div", np.where(rng.random(n) < 0.4, np.nan, rng.uniform(0, 0.8, n)))
    return b.put("state/baseline", [0.3], np.float64)


@recipe("syn_grpo", {"": described(7050), "_first": described(7051).without("state/baseline"), "_logits": described(
    7052, vocab=5), "_set": (described(7053), dict(relative=False, lambda_d=1.5, mu=0.4))},
    clip_low=0.2, clip_high=0.2, lambda_d=0.5, mu=0.1, relative=True)
def syn_grpo(table, p):
    t = table.masked()
    run, reward, accuracy = Policy(t, p), t.col("rollout/reward"), t.col("rollout/accuracy")
    b = float(t.col("state/baseline")[0]) if t.has("state/baseline") else 0.0
    div = [deviation([accuracy[r] for r in rs]) for rs in t.live_groups]
    paid = {}
    for r, d in enumerate(t.col("rollout/produced_div").tolist()):
        above = d - b
        paid[r] = const(0.0 if math.isnan(d) else max(min(above / max(b, 1e-6), 1), -1) if p["relative"] else above)
    adv = normed(t, {r: reward[r] + p["lambda_d"] * paid[r] for r in t.rollouts}, 1e-4)
    metrics = dict(diversity=mean(div), diversity_reward=mean(paid[r] for r in t.rollouts))
    return run.answer(adv, seq_mean(t, run.losses(adv)), metrics,
                      states=dict(baseline=(1 - p["mu"]) * b + p["mu"] * mean(div).item()))


# ---- DCPO, single-stream SPO: what is kept of a prompt ----


def remembered(t, name, start):
    """prompt -> value of a keyed state before the batch"""
    if not t.has(f"state/{name}"):
        return {}, start
    return dict(zip(t.ints(f"state/{name}.key"), t.batch.columns[f"state/{name}"].tolist())), start


def read(memory, key):
    return memory[0].get(key, memory[1])


def write(memory, news):
    """The state after the batch: groups of one prompt are averaged."""
    out = dict(memory[0])
    for key in {k for k, _ in news}:
        values = [v for k, v in news if k == key]
        out[key] = sum(values) / len(values)
    return out


def remember(b, **states):
    for name, (keys, values) in states.items():
        b.put(f"state/{name}", values, np.float64).put(f"state/{name}.key", keys, np.int64)
    return b


@rebuildable
def visited(seed, **kw):
    """Prompts 40, 41 (twice) and 43 in the batch; 41, 43 and one that is absent are known."""
    b = binary(seed, **{"groups": (3, 2, 1, 3), **kw}).put("group/prompt", [40, 41, 43, 41], np.int64)
    known = [41, 43, 77]
    return remember(b, mu=(known, [0.4, 0.75, 0.5]), sd=(known, [0.3, 0.0, 0.2]), n=(known, [2, 1, 5]))


@recipe("dcpo", {"": visited(7060), "_first": binary(7061), "_logits": binary(7062, vocab=5), **{f"_loss{k}": (
    visited(7062 + k), dict(aggregation=k, clip_low=0.2, clip_high=0.28)) for k in (1, 2, 3)}},
    clip_low=0.16, clip_high=0.2, clip_ratio_c=10.0, aggregation=0)
def dcpo(table, p):
    t = table.masked()
    reward, prompt = t.col("rollout/reward"), t.ints("group/prompt")
    before = {k: remembered(t, k, 0.0) for k in ("mu", "sd", "n")}
    adv, news, revived = {}, {k: [] for k in before}, []
    for g, rs in enumerate(t.live_groups):
        mu, sd, n = (read(before[k], prompt[g]) for k in ("mu", "sd", "n"))
        i, mu1, sd1 = n + 1, mean(reward[r] for r in rs).item(), deviation([reward[r] for r in rs]).item()
        mu_t = (n * mu + mu1) / i
        sd_t = math.sqrt((n * sd ** 2 + sd1 ** 2 + n / i * (mu1 - mu) ** 2) / i)
        for k, v in (("mu", mu_t), ("sd", sd_t), ("n", i)):
            news[k].append((prompt[g], v))
        for r in rs:
            new = (reward[r].item() - mu1) / sd1 if sd1 else 0.0
            ever = (reward[r].item() - mu_t) / sd_t if sd_t > 1e-8 else 0.0
            s1, s2 = (n * new + ever) / i, (new + n * ever) / i
            adv[r] = s1 if abs(s1) < abs(s2) else s2
        revived.append(sd1 == 0 and any(adv[r] != 0 for r in rs))
    run, losses, clipped, bounds = Policy(t, p), {}, [], {}
    for i in t.tokens():
        q, a = math.exp(run.old[i]), adv[t.rollout_of[i]]
        low = 0.5 + 0.5 * math.sqrt(max(1 - 4 * p["clip_low"] / q, 0))
        high = min(0.5 + 0.5 * math.sqrt(1 + 4 * p["clip_high"] / q), max(p["clip_ratio_c"], 10))
        bounds[i] = (low, high)
        losses[i] = -dual_clip(run.ratio[i], a, low, high, p["clip_ratio_c"])
        rho = run.ratio[i].item()
        clipped.append(min(max(rho, low), high) * a < rho * a)
    means = [mean(losses[i] for i in t.tokens(r)) for r in t.rollouts]
    sums = [total(losses[i] for i in t.tokens(r)) for r in t.rollouts]
    loss = (mean(means), total(means), token_mean(t, losses), mean(sums))[int(p["aggregation"])]
    answer = run.answer(adv, loss, dict(clip_fraction=share(clipped), revived_groups=share(revived)),
                        states={k: write(before[k], news[k]) for k in before})
    answer.bounds = bounds
    return answer


def visit(reward, **known):
    b = flat([4], [1] * 4, rollout__reward=reward).put("group/prompt", [7], np.int64)
    b.put("token/old_logp", np.log([0.9, 0.5, 0.1, 0.01]), np.float64)
    return remember(b, **{k: ([7], [v]) for k, v in known.items()})


def visit_prints(answer, credit, **after):
    bounds = [[0.7687, 1.1872], [0.5, 1.3062], [0.5, 2.0], [0.5, 5.0]]
    return [(answer.values["advantage"][1].values(), credit), (np.ravel(list(answer.bounds.values())), np.ravel(bounds)),
            ([answer.states[k][7] for k in after], list(after.values()))]


worked("dcpo", "_1", visit([1, 0, 0, 0]), dcpo, lambda a: visit_prints(a, [1.5, -0.5, -0.5, -0.5], mu=0.25, sd=0.5))
worked("dcpo", "_2", visit([0] * 4, mu=0.25, sd=0.5, n=1), dcpo,
       lambda a: visit_prints(a, [-0.16667] * 4, mu=0.125, sd=0.375))
worked("dcpo", "_3", visit([1, 1, 0, 0], mu=0.125, sd=0.375, n=2), dcpo,
       lambda a: visit_prints(a, [1.0918, 1.0918, -0.6317, -0.6317], mu=0.25, sd=0.4859))


def stream_weight(v, explore=0.05):
    return math.sqrt(v * (1 - v)) + explore


assert np.allclose([stream_weight(v) for v in (0.2778, 0.6, 0.9, 0.5)], [0.4979, 0.5399, 0.35, 0.55], atol=6e-5)


@rebuildable
def streams(seed, **kw):
    b = binary(seed, **{"groups": (1, 1, 1, 1, 1, 2), **kw}).put("group/prompt", [40, 41, 43, 41, 44, 45], np.int64)
    rng = np.random.default_rng(seed)
    b.put("rollout/D", rng.choice([0, 0.005, 0.02, 0.5], len(b.rollout_size)))
    return remember(b, alpha=([41, 43, 77], [2.0, 0.7, 4]), beta=([41, 43, 77], [5.0, 0.4, 4]))


@recipe("spo_stream", {"": streams(7070), "_first": streams(7071).without(
    "state/alpha", "state/alpha.key", "state/beta", "state/beta.key", "rollout/D"), "_logits": streams(7072, vocab=5),
    "_set": (streams(7073, wild=0.3), dict(clip_ratio_c=1.5, half_life=0.1, rho_min=0.5))},
    clip_low=0.2, clip_high=0.28, clip_ratio_c=10.0, half_life=0.06, rho_min=0.875, rho_max=0.96, explore=0.05)
def spo_stream(table, p):
    t = table.masked()
    reward, prompt = t.col("rollout/reward"), t.ints("group/prompt")
    drift = t.col("rollout/D").tolist() if t.has("rollout/D") else [0.0] * t.rollout_count
    before, news, v, raw, kept, weight = {k: remembered(t, k, 0.5) for k in ("alpha", "beta")}, {"alpha": [], "beta": []}, [], {}, [], {}
    for g, rs in enumerate(t.live_groups):
        a, b = (read(before[k], prompt[g]) for k in ("alpha", "beta"))
        v.append(a / (a + b))
        raw.update({r: reward[r] - v[-1] for r in rs})
        rho = min(max(2 ** (-sum(drift[r] for r in rs) / len(rs) / p["half_life"]), p["rho_min"]), p["rho_max"])
        won = mean(reward[r] for r in rs).item()
        news["alpha"].append((prompt[g], rho * a + won))
        news["beta"].append((prompt[g], rho * b + 1 - won))
        kept.append(const(rho))
        weight[g] = stream_weight((rho * a + won) / (rho * (a + b) + 1), p["explore"])
    everyone = [raw[r] for r in t.rollouts]
    adv = {r: x / (deviation(everyone) + 1e-8) for r, x in zip(t.rollouts, minus_mean(everyone))}
    run = Policy(t, p)
    metrics = dict(mean_value=mean(const(x) for x in v), mean_rho=mean(kept))
    return run.answer(adv, token_mean(t, run.losses(adv, dual=p["clip_ratio_c"])), metrics,
                      {"prompt_weight": ("group", weight)}, states={k: write(before[k], news[k]) for k in before})


stream = flat([1] * 4, [1] * 4, rollout__reward=[1, 1, 1, 0], rollout__D=[0.02, 0, 0, 0])
stream.put("group/prompt", [1, 2, 3, 4], np.int64)
first = [8 * 2.5 / 9, 8 * 6.5 / 9]
remember(stream, alpha=([1, 2, 3, 4], [first[0], 0.6, 0.9, 0.5]), beta=([1, 2, 3, 4], [first[1], 0.4, 0.1, 0.5]))
worked("spo_stream", "", stream, spo_stream, lambda a: [
    (first, [2.2222, 5.7778]), (a.values["advantage"][1].values(), [1.0416, 0.4220, -0.1549, -1.3088]),
    ([a.states["alpha"][1], a.states["beta"][1]], [2.9444, 5.0556])])
again = flat([1], [1], rollout__reward=[0], rollout__D=[0]).put("group/prompt", [1], np.int64)
remember(again, alpha=([1], [2.9444]), beta=([1], [5.0556]))
worked("spo_stream", "_again", again, spo_stream, lambda a: [
    ([a.states["alpha"][1] / (a.states["alpha"][1] + a.states["beta"][1])], [0.3257])])
