"""Recipes that change the reward, the groups or what a row is (recipes C, 1 to 6, 15 and 17 to 20)."""

from .common import *
from .off_policy import answer, binary, centred, k3_term, logits, ragged, share, token_losses, with_columns

CLIP = {"clip_low": 0.2, "clip_high": 0.2, "beta": 0.0}


def clipped_tokens(run, adv, ratio, low=0.2, high=0.2):
    rows = run.t.tokens()
    return mean(is_clipped(ratio[i], adv[run.t.rollout_of[i]], low, high) for i in rows)


def grpo_with(run, p, reward, /, **metrics):
    """GRPO as in TRL on a reward of the recipe's own."""
    adv = z_scores(run.t, reward, 1e-4)
    found = ppo_tokens(run, {**CLIP, **p}, adv, run.token_ratios(), seq_mean)
    found.metrics.update({k: float(v) for k, v in metrics.items()})
    return found


# ---- SEED-GRPO ----


def seed_grpo(table, p):
    run = Run(table, p)
    t, cluster, alpha = run.t, table.ints("rollout/cluster"), p.get("alpha", 0.02 * math.log(8))
    reward, adv, entropies, meanings = t.col("rollout/reward"), {}, [], []
    for rs in t.live_groups:
        join = mean if p.get("length_normalise", True) else total
        q = {r: torch.exp(join(run.old[i] for i in t.tokens(r))) for r in rs}
        names = sorted({cluster[r] for r in rs})
        shares = [total(q[r] for r in rs if cluster[r] == k) / total(q.values()) for k in names]
        entropy = -mean(torch.log(s) for s in shares)
        level = 0.0 if len(rs) == 1 else min(max(entropy.item() / math.log(len(rs)), 0.0), 1.0)
        entropies.append(entropy)
        meanings.append(const(len(names)))
        adv.update((r, a * (1 - alpha * level)) for r, a in zip(rs, minus_mean([reward[r] for r in rs])))
    long = p.get("max_tokens", 512)
    found = ppo_tokens(run, {**CLIP, **p}, adv, run.token_ratios(),
                       lambda t, ls: total(ls.values()) / (len(t.rollouts) * long))
    found.metrics.update(semantic_entropy=float(mean(entropies)), meanings=float(mean(meanings)))
    return found


def clustered(batch, seed):
    """Cluster numbers repeat between groups and mean nothing there; the first group agrees wholly."""
    with_columns(batch, seed, rollout_cluster=3)
    batch.columns["rollout/cluster"][: batch.group_size[0]] = 7
    return batch


stdlib_case("recipe_seed_grpo", "seed_grpo", clustered(ragged(5500, groups=(3, 1, 5, 4)), 1), seed_grpo,
            {"alpha": 0.5})
stdlib_case("recipe_seed_grpo_logits", "seed_grpo", clustered(logits(5501, groups=(2, 4)), 2), seed_grpo)
stdlib_case("recipe_seed_grpo_sums", "seed_grpo", clustered(ragged(5502, groups=(2, 4, 5)), 3), seed_grpo,
            {"alpha": 0.8, "length_normalise": False, "max_tokens": 8})


def printed_range(table, p):
    """The recipe's own numbers: with alpha 0.02 ln 8 the factor lies in [0.958, 1]; at SE = 0 it is 1."""
    found = seed_grpo(table, p)
    reward, t = table.col("rollout/reward"), found.table
    for r, above in centred(t, reward).items():
        factor = float(found.values["advantage"][1][r] / above) if above else 1.0
        assert 0.958 <= factor <= 1, factor
        assert (factor == 1) == (not above or t.group_of[r] == 0), (r, factor)
    return found


stdlib_case("recipe_seed_grpo_factor", "seed_grpo", clustered(ragged(5503, groups=(3, 8)), 4), printed_range)


# ---- GRPO-Guard, HRPO ----


def grpo_guard(table, p):
    run = Run(table, p)
    t, low, high = run.t, p.get("clip_low", 2e-6), p.get("clip_high", 2e-6)
    column = {n: t.col("token/" + n) for n in ("mean_diff_sq", "sigma", "dt", "time")}
    adv, losses, ratio, logs = z_scores(t, t.col("rollout/reward"), 1e-4), {}, {}, []
    for i in t.tokens():
        e = torch.sqrt(column["dt"][i]) * column["sigma"][i]
        bias = column["mean_diff_sq"][i] / (2 * (e ** 2 + 1e-6))
        log_ratio = (run.logp[i] - run.old[i] + bias) * e
        logs.append(log_ratio.detach())
        ratio[i] = torch.exp(log_ratio)
        delta = 1 / (column["dt"][i] + p.get("dt_eps", 1e-6))
        if p.get("dance"):
            time = column["time"][i]
            delta = delta * (1 + p.get("eta", 0.3) ** 2 * (1 - time) / (2 * time))
        losses[i] = -clip_objective(ratio[i], adv[t.rollout_of[i]], low, high) * delta
    metrics = dict(clip_fraction=clipped_tokens(run, adv, ratio, low, high), log_ratio=mean(logs))
    return answer(run, losses, adv, metrics, ratio=("token", ratio))


def denoised(seed):
    b = with_columns(ragged(seed, wild=0), seed, token_sigma="positive", token_dt="positive", token_time="probability")
    n = sum(b.rollout_size)
    return b.put("token/mean_diff_sq", np.random.default_rng(seed).uniform(0, 0.1, n), policy=True)


stdlib_case("recipe_grpo_guard", "grpo_guard", denoised(5510), grpo_guard)
stdlib_case("recipe_grpo_guard_dance", "grpo_guard", denoised(5511), grpo_guard,
            {"dance": True, "eta": 0.7, "clip_low": 0.05, "clip_high": 0.1, "dt_eps": 2e-3})


class Steps(Run):
    """A construction step's log-prob is its node's and its edges' together."""

    def __init__(self, table):
        self.t = table.masked()
        node, edge = self.t.col("token/lp_node"), self.t.col("token/lp_edge")
        self.logp, self.old, self.ref = node + edge, self.t.col("token/old_logp"), None


def hrpo(table, p):
    run = Steps(table)
    t, exempt = run.t, table.ints("batch/s_exempt")[0] if table.has("batch/s_exempt") else 0
    u, place, lam = t.col("token/u_s"), positions(t), p.get("lam", 1.0)
    outcome, to_go, paid = z_scores(t, t.col("rollout/reward"), 1e-6), {}, []
    for r in t.rollouts:
        rest = ZERO
        for i in reversed(t.tokens(r)):
            rest = rest + (u[i] if place[i] >= exempt else 0)
            to_go[i] = rest
        paid.append(rest)
    adv = {}
    for rs in t.live_groups:
        rows = [i for r in rs for i in t.tokens(r)]
        centre = mean(to_go[i] for i in rows)
        adv.update((i, outcome[t.rollout_of[i]] + lam * (to_go[i] - centre)) for i in rows)
    found = ppo_tokens(run, CLIP, adv, run.token_ratios(), token_mean, level="token")
    found.metrics["charged"] = float(mean(paid))
    return found


def built(seed, exempt=None):
    b = ragged(seed)
    old, n = b.columns["token/old_logp"], sum(b.rollout_size)
    rng = np.random.default_rng(seed)
    part = rng.uniform(0.2, 0.8, n)
    b.put("token/lp_node", old * part + rng.normal(0, 0.2, n), policy=True)
    b.put("token/lp_edge", old * (1 - part) + rng.normal(0, 0.2, n), policy=True)
    b.put("token/u_s", -rng.uniform(0, 0.3, n))
    if exempt is not None:
        b.put("batch/s_exempt", [exempt], np.int64)
    return b.without("token/logp", "token/entropy")


stdlib_case("recipe_hrpo_mashost", "hrpo_mashost", built(5520), hrpo)
stdlib_case("recipe_hrpo_mashost_exempt", "hrpo_mashost", built(5521, 2), hrpo, {"lam": 0.4})


# ---- TSPO, CJ-GRPO ----


def tspo(table, p):
    share_done = table.col("batch/train.progress")[0].item()
    start, end = p.get("tau_start", 0.025), p.get("tau_end", 0.01)
    run = Run(table, {"temperature": start + (end - start) * share_done})
    t, acc, known = run.t, table.col("rollout/acc"), table.ints("rollout/has_interval")
    inside = table.ints("token/in_interval")
    hit = {r: mean(const(inside[i]) for i in t.tokens(r)) for r in t.rollouts}
    reward = {r: acc[r] + (hit[r] if known[r] else 1) for r in t.rollouts}
    adv = z_scores(t, reward, 1e-4)
    losses = token_losses(run, {}, lambda i, r: adv[r] * torch.exp(run.logp[i] - run.logp[i].detach()))
    return answer(run, losses, adv, dict(clip_fraction=0.0, hit=mean(hit[r] for r in t.rollouts if known[r])), seq_mean,
                  reward=("rollout", reward))


def frames(batch, seed, progress):
    with_columns(batch, seed, rollout_acc=2, rollout_has_interval="bool", token_in_interval="bool")
    batch.put("rollout/acc", batch.columns["rollout/acc"])
    batch.columns["rollout/has_interval"][: batch.group_size[0]] = 1
    if "vocab/logits" in batch.columns:
        batch.columns["vocab/logits"] *= np.float32(0.02)
    return batch.put("batch/train.progress", [progress])


stdlib_case("recipe_tspo", "tspo", frames(ragged(5530), 1, 0.0), tspo)
stdlib_case("recipe_tspo_logits", "tspo", frames(logits(5531), 2, 0.375), tspo)


def cj_grpo(table, p):
    run = Run(table, p)
    t, step = run.t, table.ints("token/step_id")
    adv, ratio = centred(t, t.col("rollout/reward")), run.token_ratios()
    losses = token_losses(run, p, lambda i, r: clip_objective(ratio[i], adv[r], 0.2, 0.2))
    by_step = Key(t.tokens(), lambda i: step[i])
    loss = mean(by_step.each(lambda mine: mean(losses[i] for i in mine)).values())
    return answer(run, losses, adv, dict(clip_fraction=clipped_tokens(run, adv, ratio), denoising_steps=len(by_step)),
                  lambda t, ls: loss)


stdlib_case("recipe_cj_grpo", "cj_grpo", with_columns(ragged(5540), 1, token_step_id=4), cj_grpo)
stdlib_case("recipe_cj_grpo_logits", "cj_grpo", with_columns(logits(5541), 2, token_step_id=5), cj_grpo, {"beta": 0.04})


# ---- selectors and samplers ----


def training_free(table, p):
    reward = table.col("rollout/reward")
    run = Run(table.keep_groups(lambda g: 0 < mean(reward[r] for r in table.groups[g]) < 1), p)
    return grpo_with(run, p, reward, kept_groups=len(run.t.group_ids))


stdlib_case("recipe_training_free_grpo", "training_free_grpo",
            binary(ragged(5550, groups=(3, 1, 4, 2, 3)), 3, right=[0], wrong=[3]), training_free)


def vas(table, p):
    run = Run(table, p)
    t, right, prompt = run.t, table.ints("rollout/correct"), table.ints("group/prompt")
    diversity = table.col("group/diversity") if table.has("group/diversity") else [0.0] * len(t.groups)
    momentum, before = p.get("momentum", 0.0), {}
    if table.has("state/vps"):
        before = dict(zip(table.ints("state/vps.key"), table.batch.columns["state/vps"].tolist()))
    promotion = {}
    for g, rs in enumerate(t.live_groups):
        rate = sum(right[r] for r in rs) / len(rs)
        score = p.get("w_learnability", 1.0) * rate * (1 - rate) + p.get("w_diversity", 0.0) * float(diversity[g])
        promotion[g] = momentum * before.get(prompt[g], 0.0) + (1 - momentum) * score
    centre, mix = sum(promotion.values()) / len(promotion), p.get("mixture", 0.5)
    draw = {g: mix * v / centre + 1 - mix if centre > 0 else 1.0 for g, v in promotion.items()}
    found = grpo_with(run, {"beta": 0.01, **p}, t.col("rollout/reward"), promotion=centre)
    found.values.update(promotion=("group", promotion), draw=("group", draw))
    found.states["vps"] = {**before, **{prompt[g]: v for g, v in promotion.items()}}
    return found


stdlib_case("recipe_vas", "vas", binary(ragged(5560, groups=(4, 1, 3, 2)), 1, right=[3]), vas)
stdlib_case("recipe_vas_solved", "vas", binary(ragged(5561, groups=(3, 2)), 2, right=[0], wrong=[1]), vas)


def with_history(batch):
    batch.put("state/vps", [0.2, 0.05], np.float64)
    return batch.put("state/vps.key", [int(batch.columns["group/prompt"][0]), 99], np.int64)


stdlib_case("recipe_vas_history", "vas",
            with_history(with_columns(binary(ragged(5562, groups=(4, 3)), 4), 4, group_diversity="probability")), vas,
            {"momentum": 0.6, "w_diversity": 0.5, "mixture": 0.8})


# ---- rewards ----


def summed(parts):
    """GRPO on a weighted sum of columns: parts(column, p) -> rollout -> reward."""

    def reference(metric, by_default=None):
        def one(table, p):
            p = {**(by_default or {}), **p}
            run = Run(table, p)
            make = parts(lambda name: table.col("rollout/" + name), p)
            reward = {r: make(r) for r in run.t.rollouts}
            return grpo_with(run, p, reward, **metric(run.t, table, reward))

        return one

    return reference


def mean_reward(t, table, reward):
    return dict(reward=mean(reward.values()))


ton = summed(lambda c, p: lambda r: c("type_match")[r] + c("value_match")[r] + c("format")[r])(
    mean_reward, {"beta": 0.04})
TON = dict(rollout_type_match="bool", rollout_value_match="bool", rollout_format="bool")


def real_flags(batch, *names):
    for name in names:
        batch.put(name, batch.columns[name].astype(np.float32))
    return batch


def ton_batch(batch, seed):
    return real_flags(with_columns(batch, seed, **TON), "rollout/type_match", "rollout/value_match", "rollout/format")


stdlib_case("recipe_ton", "ton", ton_batch(ragged(5570), 1), ton)
stdlib_case("recipe_ton_logits", "ton", ton_batch(logits(5571), 2), ton, {"beta": 0.0})

four = summed(lambda c, p: lambda r: total(p.get(f"weights.{k}", 0.25) * c(f"rewards.{k}")[r] for k in range(1, 5)))
SCORES = {f"rollout_rewards.{k}": "real" for k in range(1, 5)}
stdlib_case("recipe_multi_objective_grpo", "multi_objective_grpo", with_columns(ragged(5572), 3, **SCORES),
            four(mean_reward))
stdlib_case("recipe_multi_objective_grpo_weights", "multi_objective_grpo", with_columns(ragged(5582), 6, **SCORES),
            four(mean_reward), {"weights.2": 1.5, "weights.4": 0.0})

PARTS = {f"rollout_{n}": "probability"
         for n in ("frame_reward", "overlap_reward", "ratio_reward", "mean_iou", "sam_iou")}
omni = summed(lambda c, p: lambda r: (
    p.get("a_k", 1.0) * (c("frame_reward")[r] + c("overlap_reward")[r] + c("ratio_reward")[r])
    + p.get("a_a", 1.0) * c("mean_iou")[r] + p.get("a_g", 1.0) * c("sam_iou")[r]
    + (c("format")[r] if p.get("formatted") else 0)))(mean_reward)


def omni_formatted(table, p):
    return omni(table, {**p, "formatted": True})


stdlib_case("recipe_omni_r1_reward", "omni_r1_reward", with_columns(ragged(5573), 4, **PARTS), omni)
stdlib_case("recipe_omni_r1_reward_format", "omni_r1_reward",
            real_flags(with_columns(ragged(5574), 5, rollout_format="bool", **PARTS), "rollout/format"), omni_formatted,
            {"a_k": 0.5, "a_a": 2.0, "a_g": 0.25})

autovla = summed(lambda c, p: lambda r: c("driving_score")[r] - p.get("lam", 1e-3) * c("cot_length")[r])(
    lambda t, table, reward: dict(cot_length=mean(table.col("rollout/cot_length")[r] for r in t.rollouts)))


def drives(batch, seed):
    with_columns(batch, seed, rollout_driving_score="probability", rollout_cot_length=300)
    return batch.put("rollout/cot_length", batch.columns["rollout/cot_length"])


stdlib_case("recipe_autovla_reward", "autovla_reward", drives(ragged(5575), 6), autovla)


def datarus(table, p):
    done = table.col("batch/train.progress")[0].item()
    c = 0.5 * (1 + math.cos(math.pi * done))
    run = Run(table, p)
    first, second = table.col("rollout/r_structure"), table.col("rollout/r_hrm")
    reward = {r: c * first[r] + (1 - c) * second[r] for r in run.t.rollouts}
    return grpo_with(run, p, reward, structure_share=c)


for at, progress in enumerate([0.0, 0.3, 1.0]):
    stdlib_case(f"recipe_datarus_r1_reward{at or ''}", "datarus_r1_reward",
                with_columns(ragged(5576 + at), 7 + at, rollout_r_structure="probability", rollout_r_hrm="real")
                .put("batch/train.progress", [progress]), datarus)


def gcpo(table, p):
    run = Run(table, p)
    t, aux, acc = run.t, table.ints("rollout/aux"), table.col("rollout/acc")
    reward, gains, sides = {}, [], []
    for rs in t.live_groups:
        used, unused = [acc[r] for r in rs if aux[r]], [acc[r] for r in rs if not aux[r]]
        side = 0
        if used and unused:
            gain = mean(used) - mean(unused)
            gains.append(gain)
            side = 1 if gain > p.get("eps", 0.0) else -1 if gain < -p.get("eps", 0.0) else 0
        sides.append(side)
        for r in rs:
            reward[r] = acc[r] + side * p.get("w", 1.0) * aux[r]
            for part in ("format", "len"):
                if table.has("rollout/" + part):
                    reward[r] = reward[r] + table.col("rollout/" + part)[r]
    return grpo_with(run, p, reward, gain=mean(gains), contrast=share(s != 0 for s in sides))


def constructed(batch, seed):
    """Groups in which the construction helps, hurts, makes no difference, and is always or never there."""
    b = with_columns(batch, seed, rollout_aux="bool", rollout_acc=2)
    aux, acc = b.columns["rollout/aux"], b.put("rollout/acc", b.columns["rollout/acc"]).columns["rollout/acc"]
    aux[:12], acc[:12] = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0], [1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1]
    return b


stdlib_case("recipe_gcpo", "gcpo", constructed(ragged(5580, groups=(3, 3, 2, 2, 2, 1, 3)), 1), gcpo)
stdlib_case("recipe_gcpo_parts", "gcpo",
            real_flags(with_columns(constructed(ragged(5581, groups=(3, 3, 2, 2, 2)), 2), 3,
                                    rollout_format="bool", rollout_len="probability"), "rollout/format"), gcpo,
            {"eps": 0.6, "w": 0.5, "beta": 0.01})
