"""Recipes of the second seed list for flow models: a token is a denoising step."""

from .common import *
from .seeds_b import Policy, flat, normed, plain, recipe, share, worked


def rewarded_steps(b, seed):
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    reward = rng.choice([0, 0.25, 0.5, 1], n)
    first = b.group_size[0] + b.group_size[1]
    start = sum(b.rollout_size[:first])
    reward[start : start + sum(b.rollout_size[first : first + b.group_size[2]])] = 0.5
    noise = rng.uniform(0.2, 0.7, n)
    noise[0] = 0
    b.put("token/token_reward", reward).put("token/s_j", noise)
    return b.put("token/mean_diff_sq", rng.gamma(1, 0.2, n), policy=True)


@rebuildable
def branched(seed, **kw):
    return rewarded_steps(plain(seed, **{"groups": (3, 1, 2, 2), "max_len": 4, "spread": 1e-4, **kw}), seed)


@recipe("tempflow_grpo", {"": branched(7260), "_set": (branched(7261, spread=0.3), dict(
    clip_low=0.2, clip_high=0.2, beta=0.1, max_advantage=0.8)), "_global": (branched(7262), dict(global_std=True, beta=0.0))},
    clip_low=1e-4, clip_high=1e-4, max_advantage=5.0, beta=0.004, noise_scale=2.25, global_std=False)
def tempflow_grpo(table, p):
    t = table.masked()
    run, reward, place, s = Policy(t, p), t.col("token/token_reward"), positions(t), t.col("token/s_j")
    stages = {k: [i for i in t.tokens() if place[i] == k] for k in sorted({place[i] for i in t.tokens()})}
    adv = {}
    for stage in stages.values():
        for rs in t.live_groups:
            cell = [i for i in stage if t.rollout_of[i] in rs]
            spread = deviation([reward[i] for i in (stage if p["global_std"] else cell)], 0)
            for i, above in zip(cell, minus_mean([reward[i] for i in cell])):
                adv[i] = torch.clamp(above / (spread + 1e-4), -p["max_advantage"], p["max_advantage"])
    says = {r: any(adv[i] != 0 for i in t.tokens(r)) for r in t.rollouts}
    per_stage = []
    for stage in stages.values():
        terms = []
        for i in stage:
            if says[t.rollout_of[i]]:
                term = -p["noise_scale"] * s[i] * clip_objective(run.ratio[i], adv[i], p["clip_low"], p["clip_high"])
                if p["beta"] and s[i] > 0:
                    term = term + p["beta"] * t.col("token/mean_diff_sq")[i] / (2 * s[i] ** 2)
                terms.append(term)
        per_stage.append(mean(terms))
    return run.answer(adv, mean(per_stage), {"trained_share": share(says.values())}, level="token")


sigma = np.array([1, 0.964, 0.923, 0.875, 0.818, 0.75, 0.667, 0.562, 0.429, 0.25, 0])
level = np.array([0.964, *sigma[1:-1]])
noise = 0.7 * np.sqrt(sigma[:-1] / (1 - level)) * np.sqrt(sigma[:-1] - sigma[1:])
assert np.allclose(2.25 * noise, [1.575, 1.661, 1.196, 0.993, 0.872, 0.787, 0.719, 0.654, 0.576, 0.455], atol=0.02)


@rebuildable
def windowed(seed, start=None, iterations=0, rewards=4, **kw):
    b = plain(seed, **{"groups": (4, 1, 3), "max_len": 8, "spread": 1e-4, "one_token": False, **kw})
    rng, n = np.random.default_rng(seed), len(b.rollout_size)
    for k in range(1, rewards + 1):
        b.put(f"rollout/rewards.{k}", rng.choice([0, 0.3, 1, 2], n))
    if start is not None:
        b.put("state/window_start", [start], np.float64).put("state/iterations", [iterations], np.float64)
    return b


@recipe("mixgrpo", {"": windowed(7270), "_moves": windowed(7271, start=2, iterations=49),
                    "_wraps": (windowed(7272, start=2, iterations=4), dict(t_max=3, interval=5, window=3, stride=2, beta=0.0)),
                    "_sum": (windowed(7273, spread=0.3), dict(
                        reward_aggr=True, trim=0.34, beta=0.2, clip_low=0.2, window=6, **{"weights.2": 0.5})),
                    "_trim": (windowed(7274), dict(trim=0.3, max_advantage=0.7)),
                    "_last": windowed(7275, start=23, iterations=3)},
        clip_low=1e-4, clip_high=1e-4, max_advantage=5.0, beta=0.0, reward_aggr=False, trim=0.0, window=4, stride=1,
        interval=25, t_max=23)
def mixgrpo(table, p):
    t, place = table, positions(table)
    s = int(t.col("state/window_start")[0]) if t.has("state/window_start") else 0
    done = int(t.col("state/iterations")[0]) if t.has("state/iterations") else 0
    t = t.masked().keep_tokens(lambda i: s <= place[i] < min(s + p["window"], p["t_max"]))
    weights = {k: p.get(f"weights.{k}", 1.0) for k in range(1, 5)}
    channel = {k: t.col(f"rollout/rewards.{k}") for k, w in weights.items() if w}
    if p["reward_aggr"]:
        channel = {0: total(weights[k] * c for k, c in channel.items())}
    adv = {r: ZERO for r in t.rollouts}
    for k, x in channel.items():
        for rs in t.live_groups:
            low_first = sorted(rs, key=lambda r: x[r].item())
            counted = [x[r] for r in low_first[math.floor(p["trim"] * len(rs)):]]
            for r in rs:
                adv[r] = adv[r] + weights.get(k, 1.0) * (x[r] - mean(counted)) / (deviation(counted) + 1e-8)
    adv = {r: torch.clamp(a, -p["max_advantage"], p["max_advantage"]) for r, a in adv.items()}
    run = Policy(t, {**p, "beta": 0})
    losses = run.losses(adv)
    if p["beta"]:
        losses = {i: v + p["beta"] * 0.5 * (run.lp[i] - run.old[i]) ** 2 for i, v in losses.items()}
    after = (0 if s + p["stride"] > p["t_max"] else s + p["stride"]) if (done + 1) % p["interval"] == 0 else s
    return run.answer(adv, seq_mean(t, losses), {"window_start": s}, states=dict(window_start=after, iterations=done + 1))


mixed = flat([3], [2] * 3, rollout__reward=[0] * 3).put("rollout/rewards.1", [0.2, 0.3, 0.1], np.float64)
mixed.put("rollout/rewards.2", [5, 7, 9], np.float64)
worked("mixgrpo", "", mixed, mixgrpo, lambda a: [(a.values["advantage"][1].values(), [-1, 1, 0])],
       {"weights.3": 0, "weights.4": 0})


@rebuildable
def judged(seed, **kw):
    b = plain(seed, **{"max_len": 6, "spread": 1e-4, **kw})
    rng, n = np.random.default_rng(seed), sum(b.rollout_size)
    wins = []
    for size in b.group_size:
        wins += list(rng.integers(0, 2 * size - 1, size) / 2 / max(size - 1, 1))
    b.put("rollout/win_rate", wins).put("rollout/clip_score", rng.normal(0.3, 0.05, len(wins)))
    return b.put("token/step_mask", rng.random(n) < 0.6, np.uint8)


@recipe("pref_grpo", {"": judged(7280).without("rollout/clip_score"), "_clip": (judged(7281, spread=0.3), dict(
    w_pref=0.7, w_clip=1.4, clip_low=0.2, clip_high=0.2)), "_cap": (judged(7282), dict(max_advantage=0.6))},
    clip_low=1e-4, clip_high=1e-4, max_advantage=5.0, w_pref=1.0, w_clip=0.0, beta=0.0)
def pref_grpo(table, p):
    drawn = table.ints("token/step_mask")
    t = table.masked().keep_tokens(lambda i: drawn[i])
    rate, adv = t.col("rollout/win_rate"), {r: ZERO for r in t.rollouts}
    preference = {r: const(round(rate[r].item() * 1000) / 1000) for r in t.rollouts}
    for w, x in ((p["w_pref"], preference), (p["w_clip"], t.col("rollout/clip_score") if p["w_clip"] else None)):
        if w:
            z = normed(t, x, 1e-8)
            adv = {r: adv[r] + w * z[r] for r in adv}
    adv = {r: torch.clamp(a, -p["max_advantage"], p["max_advantage"]) for r, a in adv.items()}
    run = Policy(t, p)
    best = mean(max(rate[r] for r in rs) for rs in t.live_groups)
    return run.answer(adv, seq_mean(t, run.losses(adv)), {"best_win_rate": best})


beaten = flat([3], [2] * 3, rollout__win_rate=[1, 0, 0.5]).put("token/step_mask", [1] * 6, np.uint8)
worked("pref_grpo", "", beaten, pref_grpo, lambda a: [(a.values["advantage"][1].values(), [1, -1, 0])])
