"""The rest of the first seed list: recipes that change the reward, the advantage or the clip of a piece."""

from .common import *
from .seeds_a import answer, bools, columns, flag, ints, ppo, raw, reals, usual, zG


def shaped(t, reward, adv, printed):
    """Values to emit, held against the recipe's printed numbers."""
    if printed:
        for name, want in printed.items():
            got = [float({"reward": reward, "advantage": adv}[name][r]) for r in t.rollouts]
            assert np.allclose(got, want, atol=6e-5), (name, got)
    return dict(reward=("rollout", reward))


def example(seed, sizes, groups=None, **kinds):
    """A small batch for worked numbers; columns as (dtype, values)."""
    b = Batch(groups or [len(sizes)], sizes)
    rng, n = np.random.default_rng(seed), sum(sizes)
    b.put("token/logp", -rng.gamma(1.2, 0.9, n), np.float64)
    for name in ("old_logp", "ref_logp"):
        b.put(f"token/{name}", b.columns["token/logp"] + rng.normal(0, 0.1, n), np.float64)
    b.put("token/entropy", rng.gamma(2, 0.5, n), np.float64)
    for name, (dtype, values) in kinds.items():
        b.put(f"rollout/{name}", values, dtype)
    return b


U, I, F = np.uint8, np.int64, np.float64

# ---- 5: E-GRPO


@rebuildable
def with_entities(seed, **kw):
    b = small(seed, **{"groups": (4, 1, 3, 2), **kw})
    found = reals(0, 1)[1](np.random.default_rng(seed), len(b.rollout_size))
    found[5:8] = 0  # nobody in the third group found anything
    return columns(b.put("rollout/gamma", found), seed, err=flag(0.2), overlong=flag(0.2))


def e_grpo(alpha=0.3, high=0.28, count=False, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, gamma, right = run.t, table.col("rollout/gamma"), bools(table, "rollout/correct")
        err = bools(t, "rollout/err") if t.has("rollout/err") else [False] * t.rollout_count
        long = bools(t, "rollout/overlong")
        reward = {}
        for rollouts in t.live_groups:
            most = max(gamma[r].item() for r in rollouts)
            for r in rollouts:
                found = gamma[r].item() / most if most > 0 else 0.0
                reward[r] = const(0 if err[r] or long[r] else 1 if right[r] else alpha * found)
        adv = zG(t, reward)

        def reduce(t, losses):
            short = [mean(losses[i] for i in t.tokens(r)) for r in t.rollouts if not long[r]]
            return total(short) / (len(t.rollouts) if count else len(short))

        near = mean(const(reward[r] > 0 and not right[r]) for r in t.rollouts)
        return usual(run, adv, reduce, 0.2, high, extra=shaped(t, reward, adv, printed), near_miss=near)

    return reference


stdlib_case("recipe_e_grpo", "e_grpo", with_entities(3031), e_grpo())
stdlib_case("recipe_e_grpo_logits", "e_grpo", with_entities(3032, vocab=5, groups=(3, 1, 2), max_len=4), e_grpo(0.6, 0.4),
            {"alpha": 0.6, "clip_high": 0.4})
stdlib_case("recipe_e_grpo_count", "e_grpo", with_entities(3033), e_grpo(count=True), {"count_overlong": True})
stdlib_case("recipe_e_grpo_worked", "e_grpo",
            example(1, [2, 3, 1, 2], gamma=(F, [0.5, 0.25, 0, 0.5]), correct=(U, [1, 0, 0, 0]), overlong=(U, [0, 0, 0, 1])),
            e_grpo(printed=dict(reward=[1, 0.15, 0, 0], advantage=[1.4837, -0.2863, -0.5987, -0.5987])))
stdlib_case("recipe_e_grpo_all_wrong", "e_grpo",
            example(2, [2, 3, 1], gamma=(F, [0.8, 0.4, 0]), correct=(U, [0] * 3), overlong=(U, [0] * 3)),
            e_grpo(printed=dict(reward=[0.3, 0.15, 0], advantage=[1, 0, -1])))

# ---- 10: TEMPO


@rebuildable
def with_tree(seed, **kw):
    b = small(seed, **{"groups": (5, 1, 4, 2), "mask": kw.pop("mask", True), **kw})
    return b.put("token/action", np.random.default_rng(seed).integers(0, 2, sum(b.rollout_size)), I)


def tempo(whole=False, printed=None):
    """A rollout begins with a prefix if its tokens do: the policy's alone, or (whole) those of observations too."""

    def reference(table, p):
        run = Run(table, p)
        t, reward, action, adv, parts = run.t, table.col("rollout/reward"), table.ints("token/action"), {}, []
        words = {r: t.all_tokens[r] if whole else t.tokens(r) for r in t.rollouts}

        def value(rollouts, begin):
            mine = [reward[q] for q in rollouts if [action[j] for j in words[q][: len(begin)]] == begin]
            return mine[0] if len({v.item() for v in mine}) == 1 else mean(mine)

        for rollouts in t.live_groups:
            s = deviation([reward[r] for r in rollouts])
            for r, above in zip(rollouts, minus_mean([reward[r] for r in rollouts])):
                path = [action[j] for j in words[r]]
                for k, i in enumerate(words[r]):
                    if t.kept[i]:
                        gain = value(rollouts, path[: k + 1]) - value(rollouts, path[:k])
                        adv[i] = (above + gain) / (s + 1e-6)
                        parts.append(const(gain.item() != 0))
        if printed:
            assert np.allclose([v.item() for v in adv.values()], printed, atol=6e-5), adv
        out = usual(run, adv, seq_mean, level="token", branching=mean(parts))
        out.table = table  # the program keeps every token, and leaves the masked ones out of its means
        return out

    return reference


stdlib_case("recipe_tempo", "tempo", with_tree(3071), tempo())
stdlib_case("recipe_tempo_unmasked", "tempo", with_tree(3072, mask=False, equal_group=0), tempo())
stdlib_case("recipe_tempo_whole", "tempo", with_tree(3073, equal_group=0), tempo(whole=True), {"whole_prefix": True})


def tempo_example():
    b = example(3, [3, 3, 2, 1], reward=(F, [1, 0, 1, 0]))
    return b.put("token/action", [0, 1, 2, 0, 1, 3, 0, 4, 5], I)


# The recipe prints std0; with std1 its numbers are to be taken times 0.866.
stdlib_case("recipe_tempo_worked", "tempo", tempo_example(), tempo(
    printed=[x * math.sqrt(3) / 2 for x in (4 / 3, 2 / 3, 2, -2 / 3, -4 / 3, -2, 4 / 3, 5 / 3, -2)]))

# ---- 11: Ada-GRPO


@rebuildable
def with_formats(seed, progress=0.25, **kw):
    b = columns(small(seed, **{"groups": (5, 1, 4), "equal_group": 0, **kw}), seed, format=ints(0, 3))
    return b.put("batch/train.progress", [progress])


def ada_grpo(c_h=0.001, beta=0.001, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, reward, form = run.t, table.col("rollout/reward"), table.ints("rollout/format")
        cosine, weighed, weight, styles = math.cos(math.pi * float(t.col("batch/train.progress"))), {}, [], []
        for rollouts in t.live_groups:
            styles.append(const(len({form[r] for r in rollouts})))
            for r in rollouts:
                f = sum(form[q] == form[r] for q in rollouts)
                weight.append(const(1 + 0.5 * (len(rollouts) / f - 1) * (1 + cosine)))
                weighed[r] = weight[-1] * reward[r]
        adv = raw(t, weighed)
        if printed:
            assert np.allclose([adv[r].item() for r in t.rollouts], printed, atol=6e-5), adv
        return usual(run, adv, token_mean, beta=beta, c_h=c_h, alpha=mean(weight), styles=mean(styles))

    return reference


stdlib_case("recipe_ada_grpo", "ada_grpo", with_formats(3081), ada_grpo())
stdlib_case("recipe_ada_grpo_logits", "ada_grpo", with_formats(3082, vocab=5, groups=(3, 1, 2), max_len=4), ada_grpo(0.1, 0),
            {"entropy_coef": 0.1, "beta": 0.0})
for when, progress, want in (
    ("start", 0.0, [-0.2675] * 4 + [-0.8791, 0.6497, -0.8791, 2.1785]),
    ("half", 0.5, [-0.1555] * 4 + [-1.054, 0.6738, -1.054, 2.0561]),
    ("end", 1.0, [0.5401] * 4 + [-1.6202, 0.5401, -1.6202, 0.5401]),
):
    stdlib_case(f"recipe_ada_grpo_worked_{when}", "ada_grpo",
                example(4, [1] * 8, reward=(F, [1, 1, 1, 1, 0, 1, 0, 1]), format=(I, [3] * 5 + [1, 1, 0]))
                .put("batch/train.progress", [progress], F), ada_grpo(printed=want))

# ---- 12: SSPO


@rebuildable
def with_pieces(seed, **kw):
    b = small(seed, **{"groups": (3, 1, 2), "max_len": 9, **kw})
    rng = np.random.default_rng(seed)
    if "token/entropy" in b.columns:
        b.columns["token/entropy"][: b.rollout_size[0]] = 0  # a rollout that is sure of everything
    return b.put("token/subsentence", np.concatenate([np.cumsum(rng.random(n) < 0.4) for n in b.rollout_size]), I)


def sspo(low=0.2, high=0.28, narrow=0.5, wide=1.5, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, piece, h, adv = run.t, table.ints("token/subsentence"), table.entropy(), zG(table, table.col("rollout/reward"))
        losses, ratio, widths, cut = {}, {}, [], []
        for r in t.rollouts:
            pieces = {}
            for i in t.tokens(r):
                pieces.setdefault(piece[i], []).append(i)
            sure = {k: sum(h[i].item() for i in mine) / len(mine) for k, mine in pieces.items()}
            for k, mine in pieces.items():
                m = sum(sure.values()) / len(sure)
                c = min(max(sure[k] / m, narrow), wide) if m > 0 else 1.0
                widths.append((r, k, c))
                d = mean((run.logp[i] - run.old[i]).detach() for i in mine)
                for i in mine:
                    ratio[i] = torch.exp(d) * torch.exp(run.logp[i] - run.logp[i].detach())
                    losses[i] = ppo(adv[r], ratio[i], low * c, high * c)
                    cut.append(is_clipped(ratio[i], adv[r], low * c, high * c))
        if printed:
            assert np.allclose([(1 - low * c, 1 + high * c) for _, _, c in widths], printed, atol=1e-9), widths
        out = answer(run, losses, seq_mean, adv, ratio, coupling="rollout", width=mean(const(c) for *_, c in widths))
        out.metrics["clip_fraction"] = float(mean(cut))
        return out

    return reference


stdlib_case("recipe_sspo", "sspo", with_pieces(3091), sspo())
stdlib_case("recipe_sspo_logits", "sspo", with_pieces(3092, vocab=6, max_len=6), sspo(0.1, 0.1, 0.8, 3), {
    "clip_low": 0.1, "clip_high": 0.1, "narrow": 0.8, "wide": 3.0})


def sspo_example():
    b = example(5, [4, 1], reward=(F, [1, 0]))
    b.put("token/entropy", [0.4, 1.4, 1.0, 0.8, 0.3], F)
    return b.put("token/subsentence", [0, 1, 1, 2, 0], I)


stdlib_case("recipe_sspo_worked", "sspo", sspo_example(), sspo(
    printed=[(0.9, 1.14), (0.7, 1.42), (0.8, 1.28), (0.8, 1.28)]))

# ---- 13: Curriculum GRPO


@rebuildable
def with_budget(seed, step=320, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3), **kw}), seed, think_ok=flag(0.7), ans_ok=flag(0.7))
    # Lengths of both sides of the budget, and above twice it.
    return b.put("rollout/length", np.random.default_rng(seed).integers(20, 400, len(b.rollout_size)), I).put(
        "batch/train.step", [step], I)


def curriculum(b0=256.0, g=0.7, every=150, lc=0.3, ll=0.6, lf=0.1, band=False, beta=0.0, eps=1e-6, end=None, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, right, step = run.t, table.ints("rollout/correct"), int(table.col("batch/train.step"))
        think, ans = t.ints("rollout/think_ok"), t.ints("rollout/ans_ok")
        budget, reward, adv, lengths = max(1.0, b0 * g ** (step // every)), {}, {}, []
        if end:
            budget = [b0, (2 * b0 + end) / 3, (b0 + 2 * end) / 3, end][min(step // every, 3)]
        for r in t.rollouts:
            n = t.ints("rollout/length")[r] if t.has("rollout/length") else len(t.all_tokens[r])
            if n <= budget:
                paid = 1.0 if band else n / budget
            else:
                paid = 1 - (n - budget) / budget if n <= 2 * budget else 0.0
            lengths.append((n > budget, paid))
            reward[r] = const(lc * right[r] + ll * paid + lf * (0.5 * think[r] + 0.5 * ans[r]))
        for rollouts in t.live_groups:
            values = [reward[r] for r in rollouts]
            for r, above in zip(rollouts, minus_mean(values)):
                adv[r] = above / math.sqrt(variance(values, 0).item() + eps)
        if printed:
            assert abs(budget - printed[0]) < 1e-9 and np.allclose([x for _, x in lengths], printed[1], atol=6e-5), lengths
        return usual(run, adv, seq_mean, beta=beta, extra=shaped(t, reward, adv, None), budget=budget,
                     over_budget=mean(const(o) for o, _ in lengths))

    return reference


stdlib_case("recipe_curriculum_grpo", "curriculum_grpo", with_budget(3101), curriculum())
stdlib_case("recipe_curriculum_grpo_band", "curriculum_grpo", with_budget(3102, step=80, vocab=5, max_len=4).without("rollout/length"),
            curriculum(6.0, 0.34, 75, 0.6, 0.3, band=True, beta=0.04),
            {"B0": 6.0, "g": 0.34, "T": 75, "lc": 0.6, "ll": 0.3, "band": "true", "beta": 0.04})
for step in (80, 340, 700):
    stdlib_case(f"recipe_curriculum_grpo_linear_{step}", "curriculum_grpo", with_budget(3103 + step, step=step), curriculum(end=87.0),
                {"linear": True})
for step, budget in ((0, 256), (150, 179.2), (300, 125.44), (450, 87.808)):
    # At 179.2 the recipe prints lengths 60, 179.2, 300 and 400; lengths are whole here, 179 stands at 0.9989.
    paid = [0.3348, 0.9989, 0.3259, 0] if step == 150 else [x / budget if x <= budget else max(0, 2 - x / budget)
                                                         for x in (60, 179, 300, 400)]
    stdlib_case(f"recipe_curriculum_grpo_worked_{step}", "curriculum_grpo", example(
        6, [1, 2, 1, 1], correct=(U, [1, 0, 1, 0]), think_ok=(U, [1] * 4), ans_ok=(U, [1, 1, 0, 0]),
        length=(I, [60, 179, 300, 400])).put("batch/train.step", [step], I), curriculum(printed=(budget, paid)))

# ---- 14: S-GRPO


@rebuildable
def with_exits(seed, **kw):
    return columns(small(seed, **{"groups": (5, 1, 4, 2), **kw}), seed, exit=ints(1, 6), correct=flag(0.5))


def s_grpo(decay=0.5, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, at, right = run.t, table.ints("rollout/exit"), bools(table, "rollout/correct")
        reward, adv, first = {}, {}, []
        for rollouts in t.live_groups:
            solved, places = 0, []
            for k, r in enumerate(sorted(rollouts, key=lambda r: (at[r], r))):
                solved += right[r]
                reward[r] = const(decay ** (solved - 1) if right[r] else 0.0)
                places += [k] if right[r] else []
            first += [const(places[0] / len(rollouts))] if places else []
        for rollouts in t.live_groups:
            adv.update(zip(rollouts, minus_mean([reward[r] for r in rollouts])))
        return usual(run, adv, seq_mean, extra=shaped(t, reward, adv, printed), first_correct=mean(first))

    return reference


stdlib_case("recipe_s_grpo", "s_grpo", with_exits(3111), s_grpo())
stdlib_case("recipe_s_grpo_logits", "s_grpo", with_exits(3112, vocab=5, groups=(3, 1), max_len=4), s_grpo(0.8), {"decay": 0.8})
stdlib_case("recipe_s_grpo_worked", "s_grpo", example(7, [2, 1, 2, 1, 3], exit=(I, [1, 2, 3, 4, 5]), correct=(U, [0, 1, 1, 0, 1])),
            s_grpo(printed=dict(reward=[0, 1, 0.5, 0, 0.25], advantage=[-0.35, 0.65, 0.15, -0.35, -0.1])))
