"""Recipes of off-policy REINFORCE and of expert traces in the batch (recipes C, 7 to 14 and 16)."""

from .common import *


def with_columns(batch, seed, **kinds):
    """Adds random columns: level_name = "bool", "probability", "real", "positive" or a number of ints."""
    rng = np.random.default_rng(seed)
    counts = {"group": len(batch.group_size), "rollout": len(batch.rollout_size), "token": sum(batch.rollout_size)}
    for key, kind in kinds.items():
        level, name = key.split("_", 1)
        n = counts[level]
        if kind == "bool":
            batch.put(f"{level}/{name}", rng.random(n) < 0.5, np.uint8)
        elif kind == "probability":
            batch.put(f"{level}/{name}", rng.uniform(0.05, 1, n))
        elif kind == "positive":
            batch.put(f"{level}/{name}", rng.uniform(0.1, 1, n))
        elif kind == "real":
            batch.put(f"{level}/{name}", rng.normal(0, 1, n))
        else:
            batch.put(f"{level}/{name}", rng.integers(0, kind, n), np.int64)
    return batch


def binary(batch, seed, right=(), wrong=()):
    """Rewards of 0 and 1; the groups named are all right or all wrong."""
    rng = np.random.default_rng(seed)
    reward = (rng.random(len(batch.rollout_size)) < 0.5).astype(np.float32)
    group = np.repeat(np.arange(len(batch.group_size)), batch.group_size)
    for g in right:
        reward[group == g] = 1
    for g in wrong:
        reward[group == g] = 0
    return batch.put("rollout/reward", reward).put("rollout/correct", reward, np.uint8)


def ragged(seed, **kw):
    """A singleton, a group of equal rewards, a rollout without a kept token, ratios far from 1."""
    return small(seed, **{"groups": (4, 1, 3, 2), "equal_group": 3, "wild": 0.15, **kw})


def logits(seed, **kw):
    kw = {"vocab": 7, "groups": (3, 1, 2), "max_len": 5, "equal_group": None, **kw}
    return ragged(seed, **kw).without("vocab/ref_logits")


def centred(t, x, lonely=False):
    """x less the mean of its group; alone: x itself where `lonely`, else 0."""
    out = {}
    for rs in t.live_groups:
        if len(rs) == 1 and lonely:
            out[rs[0]] = x[rs[0]]
        else:
            out.update(zip(rs, minus_mean([x[r] for r in rs])))
    return out


def k3_term(run, p, i):
    beta = p.get("beta", 0)
    return beta * k3(run.logp[i], run.ref[i]) if beta else ZERO


def token_losses(run, p, objective):
    """Loss of every kept token: beta k3 less what is maximised."""
    return {i: k3_term(run, p, i) - objective(i, run.t.rollout_of[i]) for i in run.t.tokens()}


def answer(run, losses, adv, metrics, reduce=token_mean, coupling="token", **values):
    return Answer(run.t, reduce(run.t, losses), {"advantage": ("rollout", adv), **values},
                  {"approx_kl": run.approx_kl(), **metrics}, coupling)


def share(flags):
    return mean(const(float(f)) for f in flags)


def both(name, seed, reference, settings=None, **others):
    """A batch of log-probs and one of logits, and one more per named setting."""
    stdlib_case(f"recipe_{name}", name, ragged(seed), reference, settings)
    stdlib_case(f"recipe_{name}_logits", name, logits(seed + 1), reference, settings)
    for k, (label, values) in enumerate(others.items()):
        stdlib_case(f"recipe_{name}_{label}", name, ragged(seed + 2 + k), reference, {**(settings or {}), **values})


def pushed_up(t, adv):
    return share(adv[t.rollout_of[i]] > 0 for i in t.tokens())


# ---- OPMD, AsymRE ----


def opmd(soft):
    def reference(table, p):
        run = Run(table, p)
        t, tau = run.t, p.get("tau", 1.0)
        reward, adv = t.col("rollout/reward"), {}
        for rs in t.live_groups:
            mine = [reward[r] for r in rs]
            if len(rs) == 1:
                base = ZERO
            elif len({x.item() for x in mine}) == 1:
                base = mine[0]
            elif soft:
                base = tau * torch.log(mean(torch.exp(x / tau) for x in mine))
            else:
                base = mean(mine)
            adv.update((r, reward[r] - base) for r in rs)
        losses = token_losses(run, p, lambda i, r: adv[r] * run.logp[i])
        return answer(run, losses, adv, {"clip_fraction": 0.0, "pushed_up": pushed_up(t, adv)},
                      lambda t, ls: token_mean(t, ls) / (1 + tau))

    return reference


both("opmd", 5000, opmd(False), tau={"tau": 0.25, "beta": 0.05})
both("opmd_logavgexp", 5010, opmd(True), tau={"tau": 0.25})


def asymre(table, p):
    run = Run(table, p)
    t, shift = run.t, p.get("shift", -0.1)
    adv = centred(t, t.col("rollout/reward"), lonely=True)
    for rs in t.live_groups:
        if len(rs) > 1:
            adv.update((r, adv[r] - shift) for r in rs)
    losses = token_losses(run, p, lambda i, r: adv[r] * run.logp[i])
    return answer(run, losses, adv, {"clip_fraction": 0.0, "pushed_up": pushed_up(t, adv)})


both("asymre", 5020, asymre, shift={"shift": 0.2})


# ---- the REC family ----


def dropped(t, reward):
    """The surplus of a group's negatives with the smallest draws."""
    out, draw = set(), uniform(t, 2, t.rollout_count)
    for rs in t.live_groups:
        centre = mean(reward[r] for r in rs)
        alike = len({reward[r].item() for r in rs}) == 1
        low = [r for r in rs if not alike and reward[r] < centre]
        surplus = len(low) - (len(rs) - len(low))
        if surplus > 0:
            out.update(sorted(low, key=lambda r: draw[r])[:surplus])
    return out


def rec_advantage(t, p, out=frozenset()):
    reward, adv = t.col("rollout/reward"), {}
    for rs in t.live_groups:
        kept = [r for r in rs if r not in out]
        spread = deviation([reward[r] for r in kept], 0) + 1e-6 if p.get("std_normalize") else 1
        for r, above in zip(kept, minus_mean([reward[r] for r in kept])):
            adv[r] = above / spread
        adv.update((r, ZERO) for r in rs if r in out)
    return adv


def rec(gate, weight="none", low=0.2, high=0.2, per_rollout=False, drop=False):
    """One loss, three switches: gate(a, ratio, low, high), weight and the pull to the sampler."""

    def reference(table, p):
        run = Run(table, p)
        t = run.t
        out = dropped(t, t.col("rollout/reward")) if drop else frozenset()
        adv = rec_advantage(t, p, out)
        el, eh = p.get("clip_low", low), p.get("clip_high", high)
        log_ratio = {i: run.logp[i] - run.old[i] for i in t.tokens()}
        rho = {i: torch.exp(log_ratio[i]).detach() for i in t.tokens()}
        if per_rollout:
            for r in t.rollouts:
                for i in t.tokens(r):
                    rho[i] = torch.exp(mean(log_ratio[j] for j in t.tokens(r))).detach()
        passed, losses = {}, {}
        for i in t.tokens():
            a = adv[t.rollout_of[i]]
            passed[i] = bool(gate(float(a), float(rho[i]), el, eh))
            w = {"none": 1.0, "is": rho[i], "advantage": torch.exp(a / p.get("temp", 1.0))}[weight]
            losses[i] = k3_term(run, p, i) - a * w * run.logp[i] * float(passed[i])
            losses[i] = losses[i] - p.get("forward_kl", 0) * run.logp[i] + p.get("k2", 0) * log_ratio[i] ** 2
        metrics = {"clip_fraction": share(not passed[i] for i in t.tokens())}
        if weight == "advantage":
            metrics["max_weight"] = largest(torch.exp(adv[r] / p.get("temp", 1.0)) for r in t.rollouts)
        if drop:
            metrics["drop_fraction"] = share(r in out for r in t.rollouts)
        if gate is ring:
            metrics["outer_ring"] = share(
                passed[i] and not two_side(0, float(rho[i]), el, eh) for i in t.tokens())
        reduce = seq_mean if per_rollout else token_mean
        return answer(run, losses, adv, metrics, reduce, "rollout" if per_rollout else "token")

    return reference


def every(a, rho, el, eh):
    return True


def one_side(a, rho, el, eh):
    return (a >= 0 and rho <= 1 + eh) or (a <= 0 and rho >= 1 - el)


def two_side(a, rho, el, eh):
    return 1 - el <= rho <= 1 + eh


def ring(a, rho, el, eh):
    return two_side(a, rho, el, eh) or (a >= 0 and rho <= 1 - 0.6) or (a <= 0 and rho >= 1 + 2.0)


def gradient_of_grpo(table, p):
    """The gate with the ratio as a weight has the gradient of PPO's clip."""
    found = rec(one_side, "is")(table, p)
    logp, old, t = table.col("token/logp"), table.col("token/old_logp"), found.table
    adv = found.values["advantage"][1]
    clip = mean(-clip_objective(torch.exp(logp[i] - old[i]), adv[t.rollout_of[i]], 0.2, 0.2) for i in t.tokens())
    same = [torch.autograd.grad(x, logp, retain_graph=True)[0] for x in (clip, found.loss)]
    assert torch.allclose(*same, atol=1e-14), same
    return found


NORM = {"std_normalize": True}
both("rec", 5100, rec(every), normalised=NORM, pulled={"forward_kl": 0.1, "k2": 0.1, "beta": 0.02})
both("rec_oneside_nois", 5110, rec(one_side), normalised=NORM, wider={"clip_low": 0.4, "clip_high": 0.05})
both("rec_oneside_is", 5120, rec(one_side, "is"), normalised=NORM)
stdlib_case("recipe_rec_oneside_is_ppo", "rec_oneside_is", ragged(5125), gradient_of_grpo)
both("rec_twoside_is", 5130, rec(two_side, "is"), pulled={"k2": 0.1})
both("rec_ring_nois", 5140, rec(ring))
both("rec_gspo_nois", 5150, rec(one_side, low=3e-4, high=4e-4, per_rollout=True),
     wider={"clip_low": 0.1, "clip_high": 0.2})
both("rec_gspo_is", 5160, rec(one_side, "is", low=3e-4, high=4e-4, per_rollout=True),
     wider={"clip_low": 0.1, "clip_high": 0.2})
both("red_weight", 5170, rec(every, "advantage"), sharp={"temp": 0.3, "std_normalize": True})


def seeded(batch):
    """Few good rollouts in large groups, so that there is something to drop."""
    reward = np.array(batch.columns["rollout/reward"])
    reward[:6] = [1.0, 0.1, 0.2, 0.0, 0.3, 0.1]
    return batch.put("rollout/reward", reward).put("batch/seed", [11], np.int64)


stdlib_case("recipe_red_drop", "red_drop", seeded(ragged(5180, groups=(6, 1, 4, 2))), rec(every, drop=True))
stdlib_case("recipe_red_drop_normalised", "red_drop", seeded(ragged(5181, groups=(7, 3, 1))),
            rec(every, drop=True), NORM)


# ---- sPPO, TOPR ----


def sppo(table, p):
    run = Run(table, p)
    t, eps = run.t, p.get("epsilon", 0.3)
    adv = centred(t, t.col("rollout/reward"), lonely=True)
    rho = {i: torch.exp(run.logp[i] - run.old[i]).item() for i in t.tokens()}
    inside = {i: 1 / (1 + eps) <= rho[i] <= 1 + eps for i in t.tokens()}
    losses = token_losses(run, p, lambda i, r: adv[r] * (run.logp[i] - run.old[i]) * float(inside[i]))
    return answer(run, losses, adv, {"clip_fraction": share(not x for x in inside.values())})


both("sppo", 5200, sppo, narrow={"epsilon": 0.1})


def topr(table, p):
    run = Run(table, p)
    t, bar = run.t, p.get("threshold", 0.0)
    reward = t.col("rollout/reward")
    adv = {r: reward[r] for r in t.rollouts} if p.get("raw_reward") else z_scores(t, reward, 1e-4)
    alpha = {}
    for r in t.rollouts:
        gaps = {i: (run.logp[i] - run.old[i]).item() for i in t.tokens(r)}
        for i in gaps:
            gap = sum(gaps.values()) if p.get("sequence_ratio") else gaps[i]
            alpha[i] = 1.0 if adv[r] > bar else min(math.exp(gap), 1.0)
    losses = token_losses(run, p, lambda i, r: alpha[i] * adv[r] * run.logp[i])
    return answer(run, losses, adv, {"clip_fraction": share(a < 1 for a in alpha.values())},
                  coupling="rollout" if p.get("sequence_ratio") else "token")


both("topr", 5210, topr, paper={"sequence_ratio": True, "raw_reward": True, "threshold": 0.3},
     threshold={"threshold": 0.5})


# ---- MIX, CHORD ----


def schedule(step, p):
    warm, decay = p.get("mu_warmup_steps", 0), p.get("mu_decay_steps", 0)
    peak, valley = p.get("mu_peak", 0.1), p.get("mu_valley", 0.1)
    if step < warm:
        return step / warm * peak
    if step >= warm + decay:
        return valley
    return valley + (peak - valley) * 0.5 * (1 + math.cos(math.pi * (step - warm) / decay))


def mixture(kind):
    """GRPO over the policy's rollouts and likelihood over the expert's, each over its own count."""

    def reference(table, p):
        run = Run(table, {"clip_low": 0.2, "clip_high": 0.2, **p})
        t, expert, reward = run.t, table.ints("rollout/is_expert"), table.col("rollout/reward")
        usual = [r for r in t.rollouts if not expert[r]]
        traces = [r for r in t.rollouts if expert[r]]
        adv, ratio = {}, run.token_ratios()
        for rs in t.live_groups:
            own = [reward[r] for r in rs if not expert[r]]
            centre, spread = mean(own), deviation(own)
            if len({x.item() for x in own}) == 1:
                centre = own[0]
            adv.update((r, (reward[r] - centre) / (spread + 1e-4)) for r in rs)
        low, high = p.get("clip_low", 0.2), p.get("clip_high", 0.2)
        rl = {i: k3_term(run, p, i) - clip_objective(ratio[i], adv[t.rollout_of[i]], low, high) for i in t.tokens()}
        sft = {}
        for r in traces:
            for i in t.tokens(r):
                prob = torch.exp(run.logp[i]).detach()
                weight = {"plain": 1.0, "phi": prob * (1 - prob), "is": prob}[
                    "plain" if kind == "phi" and p.get("phi") is False else kind]
                cap = p.get("cutoff_prob", 1.0)
                capped = cap < 1 and run.logp[i].item() > math.log(cap)
                sft[i] = -weight * (const(math.log(cap)) if capped else run.logp[i])
        n_usual = p.get("expected_usual") or max(len(usual), 1)
        n_expert = p.get("expected_expert") or max(len(traces), 1)
        mu = p.get("mu", 0.1) if kind == "plain" else schedule(table.ints("batch/train.step")[0], p)

        def part(losses, rows):
            if p.get("token_level"):
                return len(rows) * mean(losses[i] for r in rows for i in t.tokens(r))
            return total(mean(losses[i] for i in t.tokens(r)) for r in rows)

        loss = (1 - mu) * part(rl, usual) / n_usual + mu * part(sft, traces) / n_expert
        own = [i for r in usual for i in t.tokens(r)]
        metrics = {
            "clip_fraction": mean(is_clipped(ratio[i], adv[t.rollout_of[i]], low, high) for i in own),
            "approx_kl": mean((run.old[i] - run.logp[i]).detach() for i in own),
            "sft_loss": mean(x.detach() for x in sft.values()),
        }
        if kind != "plain":
            metrics["mu"] = mu
        return Answer(t, loss, {"advantage": ("rollout", adv)}, metrics)

    return reference


def experts(batch, seed, step=None):
    with_columns(batch, seed, rollout_is_expert="bool")
    # The first group is the policy's alone, the last the expert's.
    expert = batch.columns["rollout/is_expert"]
    expert[: batch.group_size[0]] = 0
    expert[-batch.group_size[-1]:] = 1
    if step is not None:
        batch.put("batch/train.step", [step], np.int64)
    return batch


stdlib_case("recipe_mix", "mix", experts(ragged(5300), 1), mixture("plain"))
stdlib_case("recipe_mix_logits", "mix", experts(logits(5301), 2), mixture("plain"), {"mu": 0.4, "beta": 0.02})
stdlib_case("recipe_mix_expected", "mix", experts(ragged(5302), 3), mixture("plain"),
            {"expected_usual": 12, "expected_expert": 5})
stdlib_case("recipe_mix_tokens", "mix", experts(ragged(5303), 3), mixture("plain"), {"token_level": True, "expected_usual": 7})
DECAY = {"mu_warmup_steps": 10, "mu_decay_steps": 40, "mu_peak": 0.9, "mu_valley": 0.05}
stdlib_case("recipe_chord", "chord", experts(ragged(5310), 4, 0), mixture("phi"))
stdlib_case("recipe_chord_logits", "chord", experts(logits(5311), 5, 27), mixture("phi"), DECAY)
stdlib_case("recipe_chord_warmup", "chord", experts(ragged(5312), 6, 4), mixture("phi"),
            {**DECAY, "phi": False, "cutoff_prob": 0.4})
stdlib_case("recipe_chord_late", "chord", experts(ragged(5313), 7, 50), mixture("phi"),
            {**DECAY, "cutoff_prob": 0.6, "expected_expert": 3})
stdlib_case("recipe_chord_is", "chord_is", experts(ragged(5320), 8, 30), mixture("is"), DECAY)


# ---- LUFFY, SRFT ----


def verl_scores(t):
    return z_scores(t, t.col("rollout/reward"), 1e-6, singleton_raw=True)


def luffy(table, p):
    run = Run(table, {"clip_low": 0.2, "clip_high": 0.2, **p})
    t, off, adv, ratio = run.t, table.ints("token/prefix_mask"), verl_scores(table), run.token_ratios()
    clipped, prob = [], []

    def objective(i, r):
        if off[i]:
            q = torch.exp(run.logp[i])
            prob.append(q.detach())
            if p.get("use_target_prob"):
                q = q / (t.col("token/target_prob")[i] + 1e-6)
            f = q / (q + p.get("gamma", 0.1)) if p.get("reshape", True) else q
            return torch.clamp(f, p.get("f_min", 0.0), p.get("f_max", math.inf)) * adv[r]
        if not p.get("clip_on_policy", True):
            clipped.append(0.0)
            return ratio[i] * adv[r]
        clipped.append(is_clipped(ratio[i], adv[r], 0.2, 0.2))
        return clip_objective(ratio[i], adv[r], 0.2, 0.2)

    losses = token_losses(run, p, objective)
    return answer(run, losses, adv, {"clip_fraction": mean(map(const, clipped)), "off_policy_prob": mean(prob)},
                  ratio=("token", ratio))


def traces(batch, seed):
    """Whole rollouts from the expert, and one that goes on after the expert's beginning."""
    off = np.random.default_rng(seed).random(len(batch.rollout_size)) < 0.4
    mask = np.repeat(off, batch.rollout_size)
    mask[: batch.rollout_size[0]] = np.arange(batch.rollout_size[0]) < 2
    batch.put("token/prefix_mask", mask, np.uint8)
    return with_columns(batch, seed, token_target_prob="probability")


stdlib_case("recipe_luffy", "luffy", traces(ragged(5400), 1), luffy)
stdlib_case("recipe_luffy_logits", "luffy", traces(logits(5401), 2), luffy, {"gamma": 0.3, "f_max": 0.6})
stdlib_case("recipe_luffy_target", "luffy", traces(ragged(5402), 3), luffy,
            {"use_target_prob": True, "reshape": False, "clip_on_policy": False})


def srft(table, p):
    run = Run(table, p)
    t, demo, reward = run.t, table.ints("rollout/is_demo"), table.col("rollout/reward")
    entropy, adv = run.t.entropy(p.get("temperature", 1.0)), verl_scores(table)
    tokens = {True: [], False: []}
    for i in t.tokens():
        tokens[bool(demo[t.rollout_of[i]])].append(i)
    joint = p.get("joint_entropy", False)
    w_sft = 0.5 * torch.exp(-mean(entropy[i].detach() for i in (t.tokens() if joint else tokens[True])))
    w_rl = 0.5 * torch.exp(mean(entropy[i].detach() for i in (t.tokens() if joint else tokens[False])))
    q = {i: torch.exp(run.logp[i]) for i in t.tokens()}

    def nll(value):
        return mean(-run.logp[i] for i in tokens[False] if reward[t.rollout_of[i]] == value)

    off = mean(-clip_objective(q[i], adv[t.rollout_of[i]], 0.2, 0.2) for i in tokens[True])
    loss = w_sft * mean(-run.logp[i] for i in tokens[True]) + off + w_rl * nll(1) - nll(0)
    clipped = mean(is_clipped(q[i], adv[t.rollout_of[i]], 0.2, 0.2) for i in tokens[True])
    return Answer(t, loss, dict(advantage=("rollout", adv)),
                  dict(clip_fraction=clipped, w_sft=w_sft, w_rl=w_rl, approx_kl=run.approx_kl()), "batch")


def demonstrations(batch, seed):
    with_columns(binary(batch, seed, wrong=[3]), seed, rollout_is_demo="bool")
    demo = batch.columns["rollout/is_demo"]
    demo[: batch.group_size[0]] = [k % 2 for k in range(batch.group_size[0])]
    batch.columns["rollout/reward"][demo == 1] = 1
    return batch


stdlib_case("recipe_srft", "srft", demonstrations(ragged(5410), 1), srft)
stdlib_case("recipe_srft_logits", "srft", demonstrations(logits(5411), 2), srft)
stdlib_case("recipe_srft_joint", "srft", demonstrations(logits(5412), 3), srft, {"joint_entropy": True})


# ---- DisCO, GEPO ----


def disco(form, tau=10.0):
    def reference(table, p):
        run = Run(table, p)
        t, reward, heat = run.t, table.col("rollout/reward"), p.get("tau", tau)
        gap = {i: run.logp[i] - run.old[i] for i in t.tokens()}
        of_token = {i: torch.exp(gap[i]) if form == "ratio" else run.logp[i] for i in t.tokens()}
        score = {r: mean(of_token[i] for i in t.tokens(r)) for r in t.rollouts}
        margin, valid = {}, 0
        for g, rs in enumerate(t.live_groups):
            good = [const(score[r]) for r in rs if reward[r] == 1]
            bad = [const(score[r]) for r in rs if reward[r] == 0]
            margin[g] = ZERO
            if good and bad:
                valid += 1
                rivals = mean(bad) if form == "basic" else heat * torch.log(mean(torch.exp(s / heat) for s in bad))
                margin[g] = mean(good) - rivals
        low_var = p.get("low_var_kl")
        kl = mean(torch.exp(gap[i]) - 1 - gap[i] if low_var else -gap[i] for i in t.tokens())
        hinge = max(p.get("beta", 1e3) * (kl.item() - p.get("delta", 1e-4)), 0)
        return Answer(t, hinge * kl - mean(margin.values()), dict(score=("rollout", score), margin=("group", margin)),
                      dict(valid=valid / len(margin), approx_kl=run.approx_kl()), "batch")

    return reference


def gradient_of_the_code(table, p):
    """The code's negative term: its value is tau, its gradient that of the soft maximum."""
    found, heat = disco("logp")(table, p), p.get("tau", 10.0)
    reward, t, logp = table.col("rollout/reward"), found.table, table.col("token/logp")
    score, margin, old = found.values["score"][1], [], table.col("token/old_logp")
    for rs in t.live_groups:
        good = [const(score[r]) for r in rs if reward[r] == 1]
        bad = [const(score[r]) for r in rs if reward[r] == 0]
        if not good or not bad:
            margin.append(ZERO)
            continue
        above = total(torch.exp(s / heat) for s in bad)
        rivals = heat * above / above.detach()
        assert abs(rivals.item() - heat) < 1e-12
        margin.append(mean(good) - rivals)
    kl = mean(old[i] - logp[i] for i in t.tokens())
    loss = p["beta"] * max(kl.item() - p["delta"], 0) * kl - mean(margin)
    same = [torch.autograd.grad(x, logp, retain_graph=True)[0] for x in (loss, found.loss)]
    assert torch.allclose(*same, atol=1e-14), same
    return found


def judged(seed, kind=ragged, **kw):
    """Groups with both kinds, one all right, one all wrong."""
    b = kind(seed, **{"groups": (4, 2, 3, 1, 2), "wild": 0, **kw}) if kind is ragged else kind(seed, wild=0, **kw)
    return binary(b, seed, right=[1], wrong=[4] if kind is ragged else [])


SOFT = {"tau": 0.5, "beta": 2.0, "delta": -0.3}
stdlib_case("recipe_disco", "disco", judged(5420), disco("logp"))
stdlib_case("recipe_disco_logits", "disco", judged(5421, logits), disco("logp"), SOFT)
stdlib_case("recipe_disco_code", "disco", judged(5426), gradient_of_the_code, SOFT)
stdlib_case("recipe_disco_low_var", "disco", judged(5422, spread=0.6), disco("logp"),
            {"low_var_kl": True, "beta": 5.0})
stdlib_case("recipe_disco_b", "disco_b", judged(5423), disco("basic"), {"beta": 2.0, "delta": -0.3})
stdlib_case("recipe_disco_lratio", "disco_lratio", judged(5424), disco("ratio", 1.0))
stdlib_case("recipe_disco_lratio_logits", "disco_lratio", judged(5425, logits), disco("ratio", 1.0), SOFT)


def gepo(table, p):
    run = Run(table, p)
    t, winner, beta = run.t, table.ints("rollout/winner"), p.get("beta", 0.1)
    role = table.ints("group/role") if table.has("group/role") else [0] * len(t.groups)
    reward, ratio = t.col("rollout/reward"), run.token_ratios()
    online = [i for i in t.tokens() if role[t.group_of[t.rollout_of[i]]] != 2]
    returns = [reward[t.rollout_of[i]] for i in online]
    spread = torch.sqrt(variance(returns) + 1e-8)
    adv = dict(zip(online, (x / spread for x in minus_mean(returns))))
    rl = []
    for i in online:
        term = k3(run.logp[i], run.ref[i]) * p.get("beta_rl", 0)
        rl.append(term - clip_objective(ratio[i], adv[i], 0.2, 0.2))
    h = {r: beta * total(run.logp[i] - run.ref[i] for i in t.tokens(r)) for r in t.rollouts}
    each, led = [], []
    for g, rs in enumerate(t.live_groups):
        won, lost = [h[r] for r in rs if winner[r]], [h[r] for r in rs if not winner[r]]
        if role[g] == 1 or not won or not lost:
            continue
        lead = mean(won) - mean(lost)
        each.append(p.get("lam", 1.0) * variance(won, 0) - torch.nn.functional.logsigmoid(lead))
        led.append(float(lead > 0))
    loss = p.get("w_rl", 1.0) * mean(rl) + p.get("w_gepo", 0.01) * mean(each)
    clipped = mean(is_clipped(ratio[i], adv[i], 0.2, 0.2) for i in online)
    return Answer(t, loss, dict(implicit=("rollout", h)),
                  dict(clip_fraction=clipped, preferred=mean(map(const, led)), gepo=mean(each).detach(),
                       approx_kl=run.approx_kl()), "group")


def winners(batch, seed, roles=None):
    with_columns(binary(batch, seed), seed, rollout_winner="bool")
    batch.columns["rollout/winner"][: batch.group_size[0]] = [k % 2 for k in range(batch.group_size[0])]
    if roles:
        batch.put("group/role", roles, np.int64)
    return batch


stdlib_case("recipe_gepo", "gepo", winners(ragged(5430), 1), gepo)
stdlib_case("recipe_gepo_logits", "gepo", winners(logits(5431), 2), gepo, {"w_gepo": 0.7, "beta": 0.5, "lam": 2.0})
stdlib_case("recipe_gepo_roles", "gepo", winners(ragged(5432, groups=(4, 3, 4, 2)), 3, [2, 1, 0, 1]), gepo,
            {"w_gepo": 0.5, "beta_rl": 0.03})
