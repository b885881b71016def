"""The library's recipes from the first seed list (recipes A, sections 2 to 20), from their formulas."""

from .common import *


def ppo(a, rho, low=0.2, high=0.2):
    return -clip_objective(rho, a, low, high)


def dual(a, rho, low, high, c):
    loss = ppo(a, rho, low, high)
    return torch.minimum(loss, -a * c) if a < 0 else loss


def zG(t, reward, eps=1e-6):
    """In a group, ddof 1; a single reward gives 0."""
    return z_scores(t, reward, eps)


def raw(t, reward):
    """The same as verl has it: a single reward stays."""
    return z_scores(t, reward, 1e-6, singleton_raw=True)


def spread_over(t, adv):
    """rollout -> value becomes token -> value"""
    return {i: adv[t.rollout_of[i]] for i in t.tokens()}


def answer(run, losses, reduce, adv, ratio, low=0.2, high=0.2, coupling="token", level="rollout", at="token",
           extra=None, **metrics):
    """Loss of every token, reduced, with what every recipe that extends grpo reports."""
    t = run.t
    of = adv.__getitem__ if level == "token" else lambda i: adv[t.rollout_of[i]]
    cut = mean(is_clipped(ratio[i], of(i), low, high) for i in t.tokens())
    values = {"advantage": (level, adv), "ratio": (at, ratio), **(extra or {})}
    return Answer(t, reduce(t, losses), values, {"clip_fraction": cut, "approx_kl": run.approx_kl(), **metrics}, coupling)


def usual(run, adv, reduce, low=0.2, high=0.2, beta=0.0, c_h=0.0, level="rollout", extra=None, **metrics):
    """PPO with a token ratio, beta k3 and an entropy bonus."""
    t, ratio, losses = run.t, run.token_ratios(), {}
    h = t.entropy() if c_h else None
    for i in t.tokens():
        a = adv[i] if level == "token" else adv[t.rollout_of[i]]
        losses[i] = ppo(a, ratio[i], low, high)
        if beta:
            losses[i] = losses[i] + beta * k3(run.logp[i], run.ref[i])
        if c_h:
            losses[i] = losses[i] - c_h * h[i]
    return answer(run, losses, reduce, adv, ratio, low, high, level=level, extra=extra, **metrics)


def columns(batch, seed, level="rollout", **draw):
    """Adds columns drawn by functions of (rng, n)."""
    rng = np.random.default_rng(seed)
    n = {"rollout": len(batch.rollout_size), "token": sum(batch.rollout_size), "group": len(batch.group_size)}.get(level)
    n = n if n is not None else len(batch.segmentations[level][0])
    for name, (dtype, f) in draw.items():
        batch.put(f"{level}/{name}", f(rng, n), dtype)
    return batch


def flag(p):
    return np.uint8, lambda rng, n: rng.random(n) < p


def ints(low, high):
    return np.int64, lambda rng, n: rng.integers(low, high, n)


def reals(low, high):
    return np.float32, lambda rng, n: rng.uniform(low, high, n)


def bools(t, name):
    return [bool(v) for v in t.ints(name)]


# ---- 2: OCC and its regimes


@rebuildable
def with_mtp(seed, **kw):
    b = small(seed, **{"groups": (3, 1, 2), "equal_group": 2, **kw})
    near = b.columns["token/old_logp"] + np.random.default_rng(seed).normal(0, 0.3, sum(b.rollout_size))
    near[::5] = b.columns["token/old_logp"][::5]  # e = 0
    return b.put("token/mlp", near, policy=True)


def occ(regime, lam=0.1, paper=False):
    def reference(table, p):
        run = Run(table, p)
        t, old, mlp = run.t, run.old, table.col("token/mlp")
        a, ratio = spread_over(t, raw(t, t.col("rollout/reward"))), run.token_ratios()
        tokens, weight = t.tokens(), lam
        if regime == "occ":
            d = {i: (run.logp[i] - old[i]).item() for i in tokens}
            e = {i: (mlp[i] - old[i]).item() for i in tokens}
            if paper:
                weight = sum(d[i] * e[i] for i in tokens) / (sum(e[i] ** 2 for i in tokens) + 1e-8)
            else:
                weight = sum(d[i] * e[i] / (e[i] ** 2 + 1e-8) for i in tokens) / len(tokens)
            weight *= p.get("lam_plus", 1.0)
        main = {i: dual(a[i], ratio[i], 0.2, 0.28, 10.0) for i in tokens}
        if regime == "ce":
            head = {i: -weight * mlp[i] for i in tokens}
        else:
            head = {i: dual(weight * a[i], torch.exp(mlp[i] - old[i]), 0.2, 0.28, 10.0) for i in tokens}
        both = {i: main[i] + head[i] for i in tokens}
        metrics = dict(mtp_nll=-mean(mlp[i].detach() for i in tokens))
        if regime == "occ":
            metrics["coefficient"] = weight
            if "printed" in p:
                assert abs(weight - p["printed"]) < 5e-5, weight
        return answer(run, both, token_mean, raw(t, t.col("rollout/reward")), ratio, 0.2, 0.28,
                      "batch" if regime == "occ" else "token", **metrics)

    return reference


stdlib_case("recipe_occ_ce", "occ_ce", with_mtp(3001), occ("ce"))
stdlib_case("recipe_occ_policy", "occ_policy", with_mtp(3002, wild=0.4), occ("policy", lam=0.5), {"lam": 0.5})
stdlib_case("recipe_occ", "occ", with_mtp(3003), occ("occ"))
stdlib_case("recipe_occ_paper", "occ", with_mtp(3004, vocab=6, groups=(2, 1, 2), max_len=4), occ("occ", paper=True),
            {"paper_coefficient": "true", "lam_plus": 0.7})


def occ_example():
    b = Batch([1], [3]).put("rollout/reward", [1.0])
    old, e = np.full(3, -1.0), np.array([0.2, -0.1, 0.4])
    b.put("token/old_logp", old, np.float64).put("token/logp", old + 0.1, np.float64)
    return b.put("token/mlp", old + e, np.float64, policy=True)


def occ_printed(value, paper):
    return lambda table, p: occ("occ", paper=paper)(table, {**p, "printed": value})


stdlib_case("recipe_occ_worked", "occ", occ_example(), occ_printed(-0.0833, False))
stdlib_case("recipe_occ_worked_paper", "occ", occ_example(), occ_printed(0.2381, True), {"paper_coefficient": "true"})

# ---- 3: MTP-D


@rebuildable
def with_heads(seed, heads=4, masks=True, **kw):
    b = small(seed, **{"groups": (2, 1), "max_len": 4, "vocab": 6, **kw})
    b.columns["vocab/logits"] = np.round(b.columns["vocab/logits"] * 2) / 2  # ties at the edge of the top
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    for k in range(1, heads + 1):
        b.put(f"vocab/mtp_logits.{k}", rng.normal(0, 1.5, (n, 6)), policy=True)
        if masks:
            # The first k tokens of a rollout have no place k earlier; head 4 never has one.
            first = [k4 >= k for m in b.rollout_size for k4 in range(m)]
            b.put(f"token/mtp_mask.{k}", np.array(first) & (k < 4), np.uint8)
    return b.without("vocab/ref_logits", "token/ref_logp", "token/sampler_logp", "token/value", "token/old_value")


def mtp_d(heads, alpha, beta, top_n):
    def reference(table, p):
        t, action, y = table.masked(), table.ints("token/action"), table.col("vocab/logits")
        loss = main = -mean(t.logp()[i] for i in t.tokens())
        for k in range(1, heads + 1):
            z, ce, kl = t.col(f"vocab/mtp_logits.{k}"), [], []
            seen = bools(t, f"token/mtp_mask.{k}") if t.has(f"token/mtp_mask.{k}") else [True] * t.token_count
            for i in t.tokens():
                if not seen[i]:
                    continue
                ce.append(-torch.log_softmax(z[i], 0)[action[i]])
                row = y[i].detach().tolist()
                top = sorted(range(len(row)), key=lambda v: (-row[v], v))[:top_n]
                log_p, log_q = torch.log_softmax(y[i][top].detach(), 0), torch.log_softmax(z[i][top], 0)
                kl.append((log_p.exp() * (log_p - log_q)).sum())
            loss = loss + alpha[k - 1] * mean(ce) + beta[k - 1] * mean(kl)
            if k == 1:
                apart = mean(v.detach() for v in kl)
        return Answer(t, loss, {}, dict(apart=apart, perplexity=torch.exp(main.detach())))

    return reference


stdlib_case("recipe_mtp_d", "mtp_d", with_heads(3011), mtp_d(4, [0.075] * 4, [1.0, 1.0, 0.5, 1.0], 3),
            {"top_n": 3, "beta.3": 0.5})
stdlib_case("recipe_mtp_d_one_head", "mtp_d", with_heads(3012, heads=1, masks=False, groups=(2, 2)),
            mtp_d(1, [0.3], [1.0], 10000), {"heads": 1, "alpha.1": 0.3})

# ---- 4: LLDS


@rebuildable
def with_searches(seed, **kw):
    b = small(seed, **{"groups": (4, 1, 3, 2), "equal_group": 3, "max_len": 8, **kw})
    columns(b, seed, "token", answer=flag(0.3))
    return columns(b, seed, searches=ints(1, 4))


def llds(response=False, adaptive=False, lam=0.2, lam_ans=0.2, c_h=0.001, beta=0.001, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, a, ratio, h = run.t, raw(run.t, table.col("rollout/reward")), run.token_ratios(), run.t.entropy() if c_h else None
        in_answer = bools(t, "token/answer") if t.has("token/answer") else [False] * t.token_count
        mask = bools(t, "token/mask") if t.has("token/mask") else [True] * t.token_count
        bound = lam_ans
        if adaptive:
            bound = lam_ans * max(mean(const(float(t.ints("rollout/searches")[r])) for r in t.rollouts).item() - 1, 0)
        pen = {i: ZERO for i in t.tokens()}
        kept = 0
        for r in t.rollouts:
            if a[r] < 0:
                continue
            spans, inside = [], False
            for i in t.all_tokens[r]:
                if mask[i] and not inside:
                    spans.append([])
                if mask[i]:
                    spans[-1].append(i)
                inside = mask[i]
            if response:
                spans = [[i for span in spans for i in span]]
            for span in spans:
                kept += len(span)
                delta = [run.old[i] - run.logp[i] for i in span]
                if sum(v.item() for v in delta) <= 0:
                    continue
                for i, fell in zip(span, delta):
                    if fell > 0:
                        pen[i] = (min(bound, lam) if in_answer[i] else lam) * fell
        losses = {}
        for i in t.tokens():
            losses[i] = ppo(a[t.rollout_of[i]], ratio[i]) + pen[i]
            if beta:
                losses[i] = losses[i] + beta * k3(run.logp[i], run.ref[i])
            if c_h:
                losses[i] = losses[i] - c_h * h[i]
        share = sum(v.item() > 0 for v in pen.values()) / max(kept, 1)
        lld = token_mean(t, pen)
        if printed is not None:
            assert abs(lld.item() - printed) < 1e-12, lld
        return answer(run, losses, token_mean, a, ratio, coupling="rollout", extra=dict(lld=("token", pen)),
                      lld=lld, paid=share)

    return reference


stdlib_case("recipe_llds", "llds", with_searches(3021, wild=0.2), llds())
stdlib_case("recipe_llds_response", "llds", with_searches(3022), llds(True, True, lam_ans=0.05),
            {"response_gate": "true", "adaptive": "true", "lambda_ans": 0.05})
stdlib_case("recipe_llds_logits", "llds", small(3023, vocab=6, groups=(2, 1, 2), max_len=5),
            llds(lam=0.5, c_h=0.0, beta=0.0), {"lambda": 0.5, "entropy_coef": 0.0, "beta": 0.0})


def llds_example():
    """Two actions of one rollout with an observation between them."""
    b = Batch([1], [6]).put("rollout/reward", [1.0])
    b.put("token/mask", [1, 1, 1, 0, 1, 1], np.uint8)
    b.put("token/old_logp", [-1, -0.5, -0.2, -9, -2, -1], np.float64)
    return b.put("token/logp", [-1.2, -0.45, -0.6, -1, -1.9, -1.05], np.float64)


plain = {"entropy_coef": 0.0, "beta": 0.0}
stdlib_case("recipe_llds_worked", "llds", llds_example(), llds(c_h=0, beta=0, printed=0.024), plain)
stdlib_case("recipe_llds_worked_response", "llds", llds_example(), llds(True, c_h=0, beta=0, printed=0.026),
            {**plain, "response_gate": "true"})

# ---- 6: GiGPO


@rebuildable
def with_states(seed, **kw):
    b = small(seed, **{"groups": (4, 1, 3), "empty_turns": True, "equal_group": 2, "max_len": 8, **kw})
    return columns(b, seed, "turn", anchor=ints(7, 10), invalid=flag(0.2))


def gigpo(gamma=0.95, w=1.0, fine=0.1, per_trajectory=False, mean_norm=False, beta=0.01, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, r, total_reward = run.t, table.col("turn/step_reward"), table.col("rollout/reward")
        anchor, turn = t.ints("turn/anchor"), t.element_of()
        bad = t.ints("turn/invalid") if t.has("turn/invalid") else [0] * len(anchor)
        adv, alone, steps = {}, 0, 0
        for rollouts in t.live_groups:
            ret, e, meets = {}, {}, {}
            for i in rollouts:
                carried = 0.0
                for j in reversed(t.elements(i)):
                    carried = r[j].item() + gamma * carried
                    ret[j], e[j] = carried - fine * bad[j], total_reward[i].item() - fine * bad[j]
                for j in t.elements(i):
                    meets.setdefault(anchor[j], []).append(j)
            scores = [e[t.elements(i)[0]] for i in rollouts] if per_trajectory else list(e.values())
            m, s = (0.0, 1.0) if len(scores) == 1 else (mean(map(const, scores)).item(), deviation(scores).item())
            same = len(set(scores)) == 1 and len(scores) > 1
            for j in e:
                above = 0.0 if same and e[j] == scores[0] else e[j] - m
                adv[j] = above if mean_norm else above / (s + 1e-6)
            for mine in meets.values():
                values, steps = [ret[j] for j in mine], steps + len(mine)
                alone += len(mine) == 1
                for j, above in zip(mine, minus_mean(values)):
                    adv[j] = adv[j] + w * (above.item() if mean_norm else above.item() / (deviation(values).item() + 1e-6))
        adv = {j: const(v) for j, v in adv.items()}
        if printed is not None:
            assert np.allclose([adv[j].item() for j in sorted(adv)], printed, atol=6e-5), adv
        per_token = {i: adv[turn[i]] for i in t.tokens()}
        out = usual(run, per_token, token_mean, beta=beta, level="token", alone=alone / steps)
        out.values["advantage"] = ("turn", adv)
        return out

    return reference


stdlib_case("recipe_gigpo", "gigpo", with_states(3041), gigpo())
stdlib_case("recipe_gigpo_trajectories", "gigpo", with_states(3042),
            gigpo(0.8, 0.5, 0.3, per_trajectory=True, beta=0.0),
            {"gamma": 0.8, "w": 0.5, "invalid_penalty": 0.3, "per_trajectory": "true", "beta": 0.0})
stdlib_case("recipe_gigpo_mean_norm", "gigpo", with_states(3043, vocab=6, groups=(3, 1), max_len=5),
            gigpo(mean_norm=True), {"mean_norm": "true"})


def gigpo_example():
    b = Batch([2], [6, 8], [2] * 7)
    b.put("turn/anchor", [0, 1, 2, 0, 1, 3, 4], np.int64).put("turn/step_reward", [0, 0, 10, 0, 0, 0, 0], np.float64)
    rng = np.random.default_rng(1)
    b.put("rollout/reward", [10, 0], np.float64).put("token/logp", -rng.gamma(1, 1, 14), np.float64)
    return b.put("token/old_logp", b.columns["token/logp"] + rng.normal(0, 0.1, 14), np.float64)


stdlib_case("recipe_gigpo_worked", "gigpo", gigpo_example(),
            gigpo(beta=0, printed=[1.7761, 1.7761, 1.069, -1.5089, -1.5089, -0.8018, -0.8018]), {"beta": 0.0})
stdlib_case("recipe_gigpo_worked_trajectories", "gigpo", gigpo_example(),
            gigpo(beta=0, w=0, per_trajectory=True, printed=[0.7071] * 3 + [-0.7071] * 4),
            {"beta": 0.0, "per_trajectory": "true", "w": 0.0})

# ---- 7: M-GRPO


@rebuildable
def with_agents(seed, aligned=True, **kw):
    b = small(seed, **{"groups": (7, 1, 4, 3), "max_len": 5, "spread": 0.1, "wild": 0.03, **kw})
    columns(b, seed, role=flag(0.6), correct_main=flag(0.5), fmt=flag(0.8), expert=reals(0, 1))
    b.put("rollout/role", b.columns["rollout/role"], np.int64)
    if aligned:
        times = np.random.default_rng(seed).integers(0, 3, len(b.rollout_size))
        b.put("rollout/multiplicity", np.where(b.columns["rollout/role"] == 1, times, 1), np.int64)
    b.columns["rollout/multiplicity"][8:12] *= b.columns["rollout/role"][8:12] == 0  # all of a group's sub runs dropped
    return b


def m_grpo(weights=(0.1, 0.9, 0.1, 0.4, 0.5), low=0.2, high=0.2, tokens=False, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t = run.t
        role, fmt, won = t.ints("rollout/role"), bools(t, "rollout/fmt"), t.ints("rollout/correct_main")
        expert = t.col("rollout/expert") if t.has("rollout/expert") else [0.0] * t.rollout_count
        times = t.ints("rollout/multiplicity") if t.has("rollout/multiplicity") else [1] * t.rollout_count
        a1, a2, b1, b2, b3 = weights
        reward, adv = {}, {}
        for r in t.rollouts:
            reward[r] = 0.0 if not fmt[r] else a1 + a2 * won[r] if role[r] == 0 else b1 + b2 * won[r] + b3 * float(expert[r])
        for rollouts in t.live_groups:
            for side in (0, 1):
                mine = [r for r in rollouts if role[r] == side]
                copies = [reward[r] for r in mine for _ in range(times[r])]
                flat = len({reward[r] for r in mine}) == 1
                m = sum(copies) / len(copies) if copies else sum(reward[r] for r in mine) / max(len(mine), 1)
                s = math.sqrt(sum((x - m) ** 2 for x in copies) / len(copies)) if copies and not flat else 0.0
                for r in mine:
                    adv[r] = const(0.0 if flat else (reward[r] - m) / (s + 1e-6))
        if printed is not None:
            assert np.allclose([adv[r].item() for r in t.rollouts], printed, atol=6e-5), adv
        ratio, losses, cut = run.token_ratios(), {}, []
        for r in t.rollouts:
            if not tokens:
                whole = torch.exp(total(run.logp[i] - run.old[i] for i in t.tokens(r)))
                ratio.update({i: whole for i in t.tokens(r)})
            losses[r] = mean(ppo(adv[r], ratio[i], low, high) for i in t.tokens(r))
            cut += [is_clipped(ratio[i], adv[r], low, high) for i in t.tokens(r)]
        both = []
        for side in (0, 1):
            copies = [losses[r] for r in t.rollouts if role[r] == side for _ in range(times[r])]
            both.append(mean(copies))
        live = {r: a for r, a in adv.items() if times[r]}
        metrics = dict(main_loss=both[0], sub_loss=both[1], approx_kl=run.approx_kl(), clip_fraction=mean(cut))
        return Answer(t, both[0] + both[1], dict(advantage=("rollout", live)), metrics, "token" if tokens else "rollout")

    return reference


stdlib_case("recipe_m_grpo", "m_grpo", with_agents(3051), m_grpo())
stdlib_case("recipe_m_grpo_released", "m_grpo", with_agents(3052).without("rollout/expert"), m_grpo((0.1, 0.9, 0.1, 0.9, 0.0), 0.2, 0.28, True),
            {"b2": 0.9, "b3": 0.0, "clip_high": 0.28, "token_ratio": "true"})
stdlib_case("recipe_m_grpo_logits", "m_grpo", with_agents(3053, vocab=5, groups=(3, 1, 2), max_len=3), m_grpo())


def m_grpo_example():
    b = Batch([3], [2, 1, 3]).put("rollout/role", [0] * 3, np.int64).put("rollout/fmt", [1] * 3, np.uint8)
    b.put("rollout/expert", [0] * 3).put("rollout/correct_main", [1, 0, 0], np.uint8).put("token/logp", [-1, -0.5, -2, -1, -1, -0.1], np.float64)
    return b.put("token/old_logp", [-1.05, -0.5, -1.9, -1.3, -1, -0.1], np.float64)


stdlib_case("recipe_m_grpo_worked", "m_grpo", m_grpo_example(), m_grpo(printed=[1.4142, -0.7071, -0.7071]))

# ---- 8: Rank-GRPO


@rebuildable
def with_lists(seed, **kw):
    """Lists around three items long: short ones, long ones, empty items, an EOS at the end of most."""
    b = items(small(seed, **{"groups": (4, 1, 3), "max_len": 8, **kw}), seed, empty=True)
    columns(b, seed, "item", hit=(np.float32, lambda rng, n: rng.random(n) < 0.5))
    last = np.zeros(sum(b.rollout_size))
    last[np.cumsum(b.rollout_size) - 1] = np.random.default_rng(seed).random(len(b.rollout_size)) < 0.8
    b.put("token/eos", last, np.uint8)
    return columns(b, seed, terminated=flag(0.7))


def rank_grpo(n=20, log_decay=False, bonus=0.1, low=0.06, high=0.08, beta=0.001, printed=None, rewards=None):
    def reference(table, p):
        run = Run(table, p)
        t, item, hit = run.t, table.element_of("item"), table.col("item/hit")
        eos = bools(t, "token/eos") if t.has("token/eos") else [False] * t.token_count
        ended = bools(t, "rollout/terminated") if t.has("rollout/terminated") else [True] * t.rollout_count
        rank = {e: k for r in t.rollouts for k, e in enumerate(t.elements(r, "item"))}
        reward, adv, ratio, losses, hits, over = {}, {}, {}, {}, [], []
        for r in t.rollouts:
            own = [hit[e].item() for e in t.elements(r, "item")][:n]
            hits.append(const(sum(own)))
            for k, x in enumerate(own):
                # disc_1 = 1, disc_j = 1 / log2(j + 1), j from 1
                reward[r, k] = sum(own[j] / math.log2(j + 2) for j in range(k, len(own))) if log_decay else x
        for rollouts in t.live_groups:
            for k in range(max((len(t.elements(r, "item")) for r in rollouts), default=0)):
                column = [const(reward.get((r, k), 0.0)) for r in rollouts]
                for r, above in zip(rollouts, minus_mean(column)):
                    adv[r, k] = above / (deviation(column) + 1e-4)
        if rewards:
            assert np.allclose([reward[key] for key in sorted(reward)], rewards, atol=6e-5), reward
        if printed is not None:
            for k, column in printed.items():
                assert np.allclose([adv[r, k].item() for r in t.rollouts], column, atol=6e-5), adv
        a = {}
        for r in t.rollouts:
            tokens = t.tokens(r)
            listed = len({rank[item[i]] for i in tokens if rank[item[i]] < n and not eos[i]})
            long = any(rank[item[i]] >= n and not eos[i] for i in tokens)
            over.append(const(long))
            for i in tokens:
                k = rank[item[i]]
                mine = [j for j in tokens if min(rank[item[j]], n) == min(k, n)]
                ratio[i] = torch.exp(mean(run.logp[j] - run.old[j] for j in mine))
                if eos[i]:
                    a[i] = ZERO
                    if ended[r]:
                        a[i] = const(-bonus if listed < n else 0 if long else bonus)
                else:
                    a[i] = adv[r, k] if k < n else const(-bonus)
                losses[i] = ppo(a[i], ratio[i], low, high) + beta * k3(run.logp[i], run.ref[i])
        out = answer(run, losses, token_mean, a, ratio, low, high, "rollout", "token", hits=mean(hits), too_long=mean(over))
        # A ratio is one per list and rank; R is of items up to the last rank.
        del out.values["ratio"]
        out.values["R"] = ("item", {t.elements(r, "item")[k]: const(v) for (r, k), v in reward.items()})
        return out

    return reference


stdlib_case("recipe_rank_grpo", "rank_grpo", with_lists(3061), rank_grpo(3), {"N": 3})
stdlib_case("recipe_rank_grpo_decay", "rank_grpo", with_lists(3062, vocab=6, groups=(3, 1, 2), max_len=6),
            rank_grpo(2, True, 0.3), {"N": 2, "log_decay": "true", "length_bonus": 0.3})
stdlib_case("recipe_rank_grpo_default", "rank_grpo", with_lists(3063), rank_grpo())


def lists(hits):
    b = Batch([len(hits)], [3] * len(hits))
    b.segment("item", [1] * sum(map(len, hits)))
    rng, n = np.random.default_rng(2), 3 * len(hits)
    b.put("item/hit", [x for own in hits for x in own], np.float64)
    for name in ("logp", "old_logp", "ref_logp"):
        b.put(f"token/{name}", -rng.gamma(1, 1, n), np.float64)
    return b


stdlib_case("recipe_rank_grpo_worked", "rank_grpo", lists([[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]]),
            rank_grpo(3, printed={0: [1.4997, -0.4999, -0.4999, -0.4999], 2: [0.8659, 0.8659, -0.8659, -0.8659]}), {"N": 3})
stdlib_case("recipe_rank_grpo_worked_decay", "rank_grpo", lists([[1, 0, 1]]), rank_grpo(3, True, rewards=[1.5, 0.5, 0.5]),
            {"N": 3, "log_decay": "true"})
