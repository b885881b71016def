"""The first seed list, last part: agents, tool calls, paraphrases, rubrics and scaled advantages."""

from .common import *
from .seeds_a import answer, bools, columns, dual, flag, ints, ppo, raw, reals, usual, zG
from .seeds_a_rewards import F, I, U, example, shaped

# ---- 15: ARPO


def arpo(weight=0.5, high=0.3, c=3.0, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, score, fmt = run.t, table.col("rollout/eval"), table.col("rollout/fmt")
        reward = {r: score[r] + weight * fmt[r] for r in t.rollouts}
        adv, ratio = raw(t, reward), run.token_ratios()
        losses = {i: dual(adv[t.rollout_of[i]], ratio[i], 0.2, high, c) for i in t.tokens()}
        starved = [const(deviation([score[r] for r in g], 0) < 0.05 and mean(score[r] for r in g) < 0.2) for g in t.live_groups]
        replayed = t.ints("rollout/is_replay") if t.has("rollout/is_replay") else [0] * t.rollout_count
        return answer(run, losses, seq_mean, adv, ratio, 0.2, high, extra=shaped(t, reward, adv, printed),
                      starved=mean(starved), replayed=sum(replayed) / len(replayed))

    return reference


@rebuildable
def with_tasks(seed, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3), "wild": 0.3, **kw}), seed, eval=(np.float32, lambda rng, n: rng.choice([0, 0, 0.5, 1], n)),
                fmt=(np.float32, lambda rng, n: -1.0 * (rng.random(n) < 0.3)), is_replay=flag(0.2))
    b.columns["rollout/eval"][5:] = 0  # a group that never succeeds
    return b


stdlib_case("recipe_arpo", "arpo", with_tasks(3121), arpo())
stdlib_case("recipe_arpo_logits", "arpo", with_tasks(3122, vocab=5, groups=(3, 1, 2), max_len=4), arpo(0.2, 0.25, 1.5),
            {"fmt_weight": 0.2, "clip_high": 0.25, "clip_ratio_c": 1.5})
for kind, score, fmt, want in (
    ("failed", [0] * 8, [0, 0, -1] + [0] * 5, [0.3536, 0.3536, -2.4749] + [0.3536] * 5),
    ("replayed", [1] + [0] * 7, [0, 0, -1] + [0] * 5, [2.2468, -0.1498, -1.3481] + [-0.1498] * 5),
):
    stdlib_case(f"recipe_arpo_worked_{kind}", "arpo", example(8, [2] * 8, eval=(F, score), fmt=(F, fmt)), arpo(printed=dict(advantage=want)))

# ---- 16: Step-GRPO


@rebuildable
def with_steps(seed, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 5), **kw}), seed, sim=reals(0, 1), retriever_ok=flag(0.6), gold_long=flag(0.4),
                recall=(np.float32, lambda rng, n: rng.choice([0, 0.5, 1], n)), tags_ok=flag(0.8))
    kind = np.repeat(np.arange(len(b.group_size)) % 2, b.group_size)
    return b.put("rollout/step_type", kind, I)


def step_grpo(c_h=0.001, beta=0.0):
    def reference(table, p):
        run = Run(table, p)
        t, kind, sim, recall = run.t, table.ints("rollout/step_type"), table.col("rollout/sim"), table.col("rollout/recall")
        named, long = bools(t, "rollout/retriever_ok"), bools(t, "rollout/gold_long")
        tags = bools(t, "rollout/tags_ok") if t.has("rollout/tags_ok") else [True] * t.rollout_count
        reward, asked, answered = {}, [], []
        for r in t.rollouts:
            if kind[r] == 0:
                reward[r] = const((0.5 * sim[r].item() + 0.5 * named[r]) if tags[r] else 0)
                asked.append(reward[r])
            else:
                part = recall[r].item()
                reward[r] = const(0 if not tags[r] else part if long[r] else 1 if part == 1 else 0)
                answered.append(reward[r])
        adv = raw(t, reward)
        return usual(run, adv, token_mean, beta=beta, c_h=c_h, extra=shaped(t, reward, adv, None),
                     asked=mean(asked), answered=mean(answered))

    return reference


stdlib_case("recipe_step_grpo", "step_grpo", with_steps(3131), step_grpo())
stdlib_case("recipe_step_grpo_logits", "step_grpo", with_steps(3132, vocab=5, groups=(2, 3), max_len=4).without("rollout/tags_ok"),
            step_grpo(0.05, 0.01), {"entropy_coef": 0.05, "beta": 0.01})

# ---- 17: OTC


@rebuildable
def with_calls(seed, stored=True, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3, 2), **kw}), seed, m=ints(0, 5), correct=flag(0.6))
    b.columns["rollout/correct"][b.group_size[0] + 1 :][: b.group_size[2] if len(b.group_size) > 2 else 0] = 0  # never solved
    b.put("group/prompt", np.arange(len(b.group_size)) + 7, I)
    if stored:
        b.put("state/n", [1.0, 2.0, 3.0], F).put("state/n.key", [7, 9, 30], I)
    return b


def otc_grpo(alpha=1.0, c=1.0, beta=0.001, printed=None, thrifts=None):
    def reference(table, p):
        run = Run(table, p)
        t, m, right, prompt = run.t, table.ints("rollout/m"), bools(table, "rollout/correct"), table.ints("group/prompt")
        stored = {}
        if "state/n" in t.batch.columns:
            stored = dict(zip(t.ints("state/n.key"), [float(x) for x in t.batch.columns["state/n"]]))
        reward, thrift = {}, []
        for g, rollouts in zip(t.group_ids, t.live_groups):
            n = min([stored.get(prompt[g], math.inf)] + [m[r] for r in rollouts if right[r]])
            stored[prompt[g]] = n
            for r in rollouts:
                if not right[r]:
                    reward[r] = ZERO
                    continue
                f = 0 if m[r] == n == 0 else m[r] if n == 0 else 2 * n * m[r] / (m[r] + n)
                if f == n == 0:
                    tool = 1.0
                elif n == 0:
                    tool = math.cos(m[r] * math.pi / (2 * m[r] + c))
                else:
                    tool = math.sin(f * math.pi / (2 * n))
                thrift.append(const(tool))
                reward[r] = const(alpha * tool)
        if thrifts:
            assert np.allclose([x.item() for x in thrift], thrifts, atol=6e-5), thrift
        adv = zG(t, reward)
        out = usual(run, adv, token_mean, beta=beta, extra=shaped(t, reward, adv, printed),
                    calls=sum(m[r] for r in t.rollouts) / len(t.rollouts), thrift=mean(thrift))
        out.states["n"] = stored
        return out

    return reference


stdlib_case("recipe_otc_grpo", "otc_grpo", with_calls(3141), otc_grpo())
stdlib_case("recipe_otc_grpo_logits", "otc_grpo", with_calls(3142, vocab=5, groups=(3, 1), max_len=4), otc_grpo(0.5, 3.0, 0.0),
            {"alpha": 0.5, "c": 3.0, "beta": 0.0})


def calls(m, correct, **kw):
    b = example(9, [1 + r % 2 for r in range(len(m))], m=(I, m), correct=(U, correct), **kw)
    return b.put("group/prompt", [5], I)


stdlib_case("recipe_otc_grpo_worked", "otc_grpo", calls([1, 2, 4, 3], [1, 1, 0, 1]),
            otc_grpo(printed=dict(reward=[1, 0.866, 0, 0.7071], advantage=[0.8012, 0.5003, -1.4448, 0.1433])))
stdlib_case("recipe_otc_grpo_worked_two", "otc_grpo", calls([1, 2, 3, 6], [1] * 4).put("state/n", [2.0], F).put("state/n.key", [4], I),
            otc_grpo(printed=dict(reward=[1, 0.866, 0.7071, 0.4339])))
stdlib_case("recipe_otc_grpo_worked_none", "otc_grpo", calls([0, 1, 2], [1] * 3), otc_grpo(thrifts=[1, 0.5, 0.309]))


def otc_ppo(alpha=1.0, c=1.0, gamma=1.0, lam=1.0, coef=1.0, clip_value=0.5, beta=0.001, thrifts=None):
    def reference(table, p):
        run = Run(table, p)
        t, m, right, old_v = run.t, table.ints("rollout/m"), bools(table, "rollout/correct"), table.col("token/old_value")
        gae, ret, thrift = {}, {}, []
        for r in t.rollouts:
            tool = math.cos(m[r] * math.pi / (2 * m[r] + c)) if m[r] else 1.0
            thrift += [const(tool)] if right[r] else []
            carried, after = 0.0, 0.0
            tokens = t.tokens(r)
            for i in reversed(tokens):
                paid = (alpha * tool if right[r] else 0.0) if i == tokens[-1] else 0.0
                delta = paid + gamma * after - old_v[i].item()
                carried, after = delta + gamma * lam * carried, old_v[i].item()
                gae[i], ret[i] = const(carried), carried + old_v[i].item()
        if thrifts:
            assert np.allclose([x.item() for x in thrift], thrifts, atol=6e-5), thrift
        gae = {i: gae[i] for i in t.tokens()}
        m_gae, width = mean(gae.values()), torch.sqrt(variance(gae.values()) + 1e-8)
        adv, ratio, losses, critic = {i: (x - m_gae) / width for i, x in gae.items()}, run.token_ratios(), {}, {}
        for i in t.tokens():
            losses[i] = ppo(adv[i], ratio[i])
            if beta:
                losses[i] = losses[i] + beta * k3(run.logp[i], run.ref[i])
            v = t.col("token/value")[i]
            near = old_v[i] + torch.clamp(v - old_v[i], -clip_value, clip_value)
            critic[i] = torch.maximum((v - ret[i]) ** 2, (near - ret[i]) ** 2) / 2
            losses[i] = losses[i] + coef * critic[i]
        return answer(run, losses, token_mean, adv, ratio, level="token", critic_loss=mean(critic.values()),
                      calls=sum(m[r] for r in t.rollouts) / len(t.rollouts), thrift=mean(thrift))

    return reference


stdlib_case("recipe_otc_ppo", "otc_ppo", with_calls(3143, stored=False), otc_ppo())
stdlib_case("recipe_otc_ppo_logits", "otc_ppo", with_calls(3144, stored=False, vocab=5, groups=(3, 1), max_len=4),
            otc_ppo(0.5, 3.0, 0.99, 0.95, 0.1, 0.2, 0.0),
            {"alpha": 0.5, "c": 3.0, "gamma": 0.99, "lam": 0.95, "vf_coef": 0.1, "cliprange_value": 0.2, "beta": 0.0})
stdlib_case("recipe_otc_ppo_worked", "otc_ppo", calls([0, 1, 2], [1] * 3).put("token/old_value", [0.1, 0.2, 0.3, 0.4], F).put(
    "token/value", [0.2, 0.1, 1.3, 0.4], F), otc_ppo(thrifts=[1, 0.5, 0.309]))

# ---- 18: PS-GRPO


@rebuildable
def with_paraphrases(seed, table=False, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3), **kw}), seed, F1=reals(0, 1))
    rng = np.random.default_rng(seed)
    if not table:
        return b.put("rollout/Rcons", rng.uniform(0, 1, len(b.rollout_size)))
    sizes = rng.choice([0, 2, 3], len(b.rollout_size))
    b.hang("comparison", "rollout", sizes)
    return b.put("comparison/sim", rng.uniform(0, 1, int(sizes.sum()))).without("rollout/F1")


def ps_grpo(a=1.0, c=1.0, table=False, printed=None):
    def reference(batch, p):
        run = Run(batch, p)
        t, agree = run.t, {}
        for r in t.rollouts:
            agree[r] = mean(t.col("comparison/sim")[k] for k in t.rows["comparison"][1][r]) if table else t.col("rollout/Rcons")[r]
        reward = {r: a * agree[r] + (c * t.col("rollout/F1")[r] if c else 0) for r in t.rollouts}
        adv = zG(t, reward)
        return usual(run, adv, seq_mean, extra=shaped(t, reward, adv, printed), consistency=mean(agree.values()))

    return reference


stdlib_case("recipe_ps_grpo", "ps_grpo", with_paraphrases(3151), ps_grpo())
stdlib_case("recipe_ps_grpo_pairs", "ps_grpo_pairs", with_paraphrases(3152, table=True, vocab=5, max_len=4), ps_grpo(2.0, 0.0, True),
            {"a": 2.0, "c": 0.0})


def ps_example():
    b = example(10, [1, 2, 2, 1], groups=[2, 2])
    b.hang("comparison", "rollout", [2] * 4)
    # o11 and o12 against o21, o22; o21 and o22 against o11, o12.
    return b.put("comparison/sim", [0.8, 0.4, 0.2, 0.2, 0.8, 0.2, 0.4, 0.2], F)


stdlib_case("recipe_ps_grpo_worked", "ps_grpo_pairs", ps_example(), ps_grpo(
    1.0, 0.0, True, printed=dict(reward=[0.6, 0.2, 0.5, 0.3], advantage=[0.7071, -0.7071, 0.7071, -0.7071])),
            {"c": 0.0})

# ---- 19: RGR-GRPO


@rebuildable
def with_rubrics(seed, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3), **kw}), seed, is_off=flag(0.3))
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 2, 3], len(b.rollout_size))
    n = int(sizes.sum())
    b.hang("criterion", "rollout", sizes)
    return b.put("criterion/weight", rng.uniform(0.2, 2, n)).put("criterion/score", rng.random(n) < 0.6, U)


def rgr_grpo(gamma=0.1, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, weight, met = run.t, table.col("criterion/weight"), bools(table, "criterion/score")
        rows, off = t.rows["criterion"][1], bools(t, "rollout/is_off")
        reward = {}
        for r in t.rollouts:
            full = total(weight[k] for k in rows[r])
            reward[r] = total(weight[k] for k in rows[r] if met[k]) / full if rows[r] else ZERO
        adv, ratio, losses, cut = zG(t, reward), run.token_ratios(), {}, []
        for i in t.tokens():
            r = t.rollout_of[i]
            if off[r]:
                prob = torch.exp(run.logp[i])
                losses[i] = -adv[r] * prob / (prob + gamma)
                cut.append(0.0)
            else:
                losses[i] = ppo(adv[r], ratio[i])
                cut.append(is_clipped(ratio[i], adv[r], 0.2, 0.2))
        wanting = [const(not any(all(met[k] for k in rows[r]) for r in g)) for g in t.live_groups]
        out = answer(run, losses, token_mean, adv, ratio, extra=shaped(t, reward, adv, printed),
                     off_policy=mean(const(off[t.rollout_of[i]]) for i in t.tokens()), refinable=mean(wanting))
        out.metrics["clip_fraction"] = float(mean(cut))
        return out

    return reference


stdlib_case("recipe_rgr_grpo", "rgr_grpo", with_rubrics(3161), rgr_grpo())
stdlib_case("recipe_rgr_grpo_logits", "rgr_grpo", with_rubrics(3162, vocab=5, groups=(3, 1, 2), max_len=4), rgr_grpo(0.4), {"gamma": 0.4})


def rgr_example():
    """Three rollouts and a refinement that meets everything, its tokens at p = 0.01, 0.1, 0.5 and 0.9."""
    b = example(11, [1, 2, 1, 4], is_off=(U, [0, 0, 0, 1]))
    b.columns["token/logp"][4:] = np.log([0.01, 0.1, 0.5, 0.9])
    b.hang("criterion", "rollout", [3] * 4)
    return b.put("criterion/weight", [2, 1, 1] * 4, F).put("criterion/score", [1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1], U)


def rgr_worked(table, p):
    found = rgr_grpo(printed=dict(reward=[0.5, 0.75, 0.25, 1], advantage=[-0.3873, 0.3873, -1.1619, 1.1619]))(table, p)
    grad = torch.autograd.grad(found.loss, table.col("token/logp"), retain_graph=True)[0][4:] * -8 / 1.1619
    assert np.allclose(grad, [0.083, 0.25, 0.139, 0.09], atol=6e-4), grad
    return found


stdlib_case("recipe_rgr_grpo_worked", "rgr_grpo", rgr_example(), rgr_worked)

# ---- 20: GRPO-S


@rebuildable
def with_harms(seed, **kw):
    b = columns(small(seed, **{"groups": (4, 1, 3, 2), **kw}), seed, W=reals(0, 1), gap=reals(-6, 6))
    return b.put("group/category", [0, 1, 0, 2][: len(b.group_size)], I)


def grpo_s(tau=16.0, printed=None):
    def reference(table, p):
        run = Run(table, p)
        t, w, gap, reward = run.t, table.col("rollout/W"), table.col("rollout/gap"), table.col("rollout/reward")
        category = t.ints("group/category") if t.has("group/category") else [0] * len(t.groups)
        sigma = lambda x: 1 / (1 + math.exp(-x))
        alpha, typical, z, adv = {}, [], {}, {}
        for c in set(category):
            mine = [r for r in t.rollouts if category[t.group_of[r]] == c]
            if not mine:
                continue
            delta = {r: 1 - w[r].item() for r in mine}
            m = sum(gap[r].item() for r in mine) / len(mine)
            kept = [r for r in mine if (gap[r].item() - m) ** 2 <= tau]
            typical += [const(r in kept) for r in mine]
            model = sigma(sum(gap[r].item() for r in kept) / len(kept)) / sigma(m) if kept else 1.0
            for r in mine:
                alpha[r] = sigma(delta[r]) / sigma(sum(delta.values()) / len(mine)) * model
        for rollouts in t.live_groups:
            values = [reward[r] for r in rollouts]
            for r, above in zip(rollouts, minus_mean(values)):
                z[r] = above / (deviation(values, 0) + 1e-6)
                adv[r] = alpha[r] * z[r]
        if printed:
            assert np.allclose([z[r].item() for r in t.rollouts], printed["z"], atol=6e-5), z
            assert np.allclose([alpha[r] / 0.896929 for r in t.rollouts], printed["aD"], atol=6e-5), alpha
            assert np.allclose([adv[r].item() for r in t.rollouts], printed["A"], atol=6e-5), adv
        return usual(run, adv, seq_mean, alpha=mean(const(alpha[r]) for r in t.rollouts), typical=mean(typical))

    return reference


stdlib_case("recipe_grpo_s", "grpo_s", with_harms(3171), grpo_s())
stdlib_case("recipe_grpo_s_batch", "grpo_s", with_harms(3172, vocab=5, groups=(3, 1, 2), max_len=4).without("group/category"),
            grpo_s(4.0), {"tau": 4.0})
stdlib_case("recipe_grpo_s_none_typical", "grpo_s", with_harms(3173, groups=(2, 2)), grpo_s(0.01), {"tau": 0.01})
stdlib_case("recipe_grpo_s_worked", "grpo_s",
            example(12, [1, 2, 1, 2], reward=(F, [-2, -1, -3, -1]), W=(F, [0.9, 0.6, 0.3, 0.6]), gap=(F, [2, 1, 3, 10])),
            grpo_s(printed=dict(z=[-0.3015, 0.9045, -1.5076, 0.9045], aD=[0.8769, 1, 1.1161, 1],
                                A=[-0.2371, 0.8113, -1.5091, 0.8113])))
