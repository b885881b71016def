"""Gradient rules, coupling, scalars, metrics, schedules."""

from .common import *

@program("detached_weight", """
extend nothing
keep token where mask
weight = detach(exp(mean(logp - old_logp per rollout)))
loss   = -mean(weight * logp)
minimize loss
""", vocab(200))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    weight = {r: torch.exp(mean(run.logp[i] - run.old[i] for i in t.tokens(r))).detach() for r in t.rollouts}
    loss = -mean(weight[t.rollout_of[i]] * run.logp[i] for i in t.tokens())
    return Answer(t, loss, dict(weight=("rollout", weight)), coupling="rollout")


@program("live_threshold", """
extend nothing
keep token where mask
# The comparison has no gradient but reads the whole batch's policy.
loss = -sum(if logp > mean(logp) then logp else 0) / 10
minimize loss
""", small(201))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")
    m = mean(lp[i] for i in t.tokens()).item()
    return Answer(t, -total(lp[i] for i in t.tokens() if lp[i] > m) / 10, coupling="batch")


@program("live_where", """
extend nothing
keep token where mask
# A mean over a set that the policy chooses: its count is live.
loss = -mean(logp where logp > old_logp) - sum(logp where logp > old_logp) / 10
minimize loss
""", small(202))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    up = [lp[i] for i in t.tokens() if lp[i] > old[i]]
    return Answer(t, -mean(up) - total(up) / 10, coupling="batch")


@program("live_sum_where", """
extend nothing
keep token where mask
loss = -sum(logp where logp > old_logp) / count(token)
minimize loss
""", small(203))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    return Answer(t, -total(lp[i] for i in t.tokens() if lp[i] > old[i]) / len(t.tokens()))


@program("turn_ratio", """
ratio = exp(mean(logp - old_logp per turn))
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high))
""", vocab(204, empty_turns=True))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio, turn = grpo_advantage(t), {}, t.element_of()
    cut = []
    for r in t.rollouts:
        for s in t.elements(r):
            ratio[s] = torch.exp(mean(run.logp[i] - run.old[i] for i in t.tokens_in(s)))
            cut.append(is_clipped(ratio[s], adv[r], 0.2, 0.2))
    losses = {i: -clip_objective(ratio[turn[i]], adv[t.rollout_of[i]], 0.2, 0.2) for i in t.tokens()}
    return Answer(t, seq_mean(t, losses), dict(advantage=("rollout", adv), ratio=("turn", ratio)),
                  {"clip_fraction": mean(cut), "approx_kl": run.approx_kl()}, "turn")


@program("group_softmax", """
extend nothing
keep token where mask
score  = mean(logp per rollout)
weight = exp(score - logsumexp(score per group))
loss   = -mean(sum(weight * reward per group))
minimize loss
""", vocab(205))
def _(table, p):
    t = table.masked()
    lp, reward, weight, gains = t.logp(), t.col("rollout/reward"), {}, []
    for rs in t.live_groups:
        score = {r: mean(lp[i] for i in t.tokens(r)) for r in rs}
        z = total(torch.exp(s) for s in score.values())
        for r in rs:
            weight[r] = torch.exp(score[r]) / z
        gains.append(total(weight[r] * reward[r] for r in rs))
    return Answer(t, -mean(gains), dict(weight=("rollout", weight)), coupling="group")


@program("batch_coupled", """
extend nothing
keep token where mask
loss = log(mean(exp(logp - old_logp))) + 0.1 * std(mean(logp per rollout))
minimize loss
""", vocab(206, wild=0))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    means = [mean(run.logp[i] for i in t.tokens(r)) for r in t.rollouts]
    return Answer(t, torch.log(mean(run.token_ratios().values())) + 0.1 * deviation(means), coupling="batch")


@program("rollout_gate", """
# A penalty on likelihood that falls, in rollouts where it falls on the whole.
gap  = old_logp - logp
lld  = if sum(gap per rollout) > 0 then sum(relu(gap) per rollout) else 0
loss = base.loss + 0.5 * mean(lld)
""", small(207))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    answer = ppo_tokens(run, GRPO, grpo_advantage(t), run.token_ratios(), seq_mean, "rollout")
    lld = {}
    for r in t.rollouts:
        gaps = [run.old[i] - run.logp[i] for i in t.tokens(r)]
        lld[r] = total(torch.relu(g) for g in gaps) if total(gaps) > 0 else ZERO
    answer.loss = answer.loss + 0.5 * mean(lld.values())
    answer.values["lld"] = ("rollout", lld)
    return answer


@program("live_bounds", """
extend nothing
keep token where mask
# The gradient goes to a bound where the bound is what counts.
held = clip(old_logp, logp - 0.2, logp + 0.1)
loss = mean(held) + mean(logp % 2) + mean(logp // 0.5 * old_logp) + 0.1 * mean(max(old_logp, logp) / min(old_logp, logp))
minimize loss
""", small(216, wild=0))
def _(table, p):
    t = table.masked()
    lp, old = t.col("token/logp"), t.col("token/old_logp")
    held, terms = {}, []
    for i in t.tokens():
        a, b = lp[i], old[i]
        held[i] = a - 0.2 if b < a - 0.2 else a + 0.1 if b > a + 0.1 else b
        top, low = (a, b) if a > b else (b, a)
        terms.append(held[i] + a - 2 * math.floor(a.item() / 2) + math.floor(a.item() / 0.5) * b + 0.1 * top / low)
    return Answer(t, mean(terms), dict(held=("token", held)))


@rebuildable
def with_nan(seed, **kw):
    b = small(seed, **kw)
    n = sum(b.rollout_size)
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 1, n)
    score[rng.random(n) < 0.4] = np.nan
    return b.put("token/score", score)


@program("branch_not_taken", """
extend nothing
input score : real @ token
keep token where mask
x     = logp + 1
safe  = if x > 0 then log(x) + sqrt(x) else 0.5 * x
known = if isnan(score) then 0 else score * logp
steep = if x < 0 then exp(x) else exp(-900 * x) * 0 + x
loss  = mean(safe) + mean(known) + mean(steep) + mean(if isfinite(score) then score else 1)
minimize loss
""", with_nan(208))
def _(table, p):
    t = table.masked()
    lp, score = t.col("token/logp"), t.col("token/score")
    safe, known, terms = {}, {}, []
    for i in t.tokens():
        x = lp[i] + 1
        safe[i] = torch.log(x) + torch.sqrt(x) if x > 0 else 0.5 * x
        missing = math.isnan(score[i].item())
        known[i] = ZERO if missing else score[i] * lp[i]
        terms.append(safe[i] + known[i] + (torch.exp(x) if x < 0 else x) + (1 if missing else score[i]))
    return Answer(t, mean(terms), dict(safe=("token", safe), known=("token", known)))


@rebuildable
def smooth(seed, **kw):
    b = small(seed, **{"groups": (3, 2), **kw, "mask": False})
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    u = rng.uniform(0.2, 3, n)
    # Away from whole numbers and halves, where floor and round jump.
    near = np.abs(u * 2 - np.round(u * 2)) < 0.05
    return b.put("token/logp", -np.where(near, u + 0.11, u))


@program("scalar_functions", """
extend nothing
a = exp(logp) + 2 * log(-logp) + 3 * log1p(exp(logp)) + 4 * expm1(logp) + 5 * log1mexp(logp)
b = log2(-logp) + 2 * sqrt(-logp) + 3 * abs(logp) + 4 * sign(logp) + 5 * sigmoid(logp)
c = log_sigmoid(logp) + 2 * tanh(logp) + 3 * softplus(logp) + 4 * relu(logp + 1) + 5 * min(logp, -1)
d = max(logp, -1.5) + 2 * clip(logp, -2, -0.5) + 3 * sin(logp) + 4 * cos(logp) + (-logp) ^ 1.5
e = floor(logp) + 2 * ceil(logp) + 3 * round(logp) + int(2 * logp)
f = (if isfinite(logp) then 1 else 0) + (if isnan(logp) then 1 else 0) + sin(pi / 6) + 2 ^ (-logp)
loss = mean(a) + mean(b) + mean(c) + mean(d) + mean(e * logp) + mean(f)
minimize loss
""", smooth(209))
def _(table, p):
    t = table
    lp = t.col("token/logp")
    out = {n: {} for n in "abcdef"}
    for i in t.tokens():
        u = lp[i]
        x = u.item()
        out["a"][i] = (u.exp() + 2 * (-u).log() + 3 * (1 + u.exp()).log() + 4 * (u.exp() - 1)
                       + 5 * (1 - u.exp()).log())
        out["b"][i] = (-u).log() / math.log(2) + 2 * (-u).sqrt() + 3 * -u - 4 + 5 / (1 + (-u).exp())
        out["c"][i] = (-(1 + (-u).exp()).log() + 2 * torch.tanh(u) + 3 * (1 + u.exp()).log()
                       + 4 * (u + 1 if x > -1 else ZERO) + 5 * (u if x < -1 else const(-1.0)))
        out["d"][i] = ((u if x > -1.5 else const(-1.5)) + 2 * (u if -2 <= x <= -0.5 else const(min(max(x, -2), -0.5)))
                       + 3 * u.sin() + 4 * u.cos() + (-u) ** 1.5)
        out["e"][i] = math.floor(x) + 2 * math.ceil(x) + 3 * round(x) + math.trunc(2 * x)
        out["f"][i] = 1 + math.sin(math.pi / 6) + 2 ** -u
    tokens = t.tokens()
    loss = total(mean(out[n][i] * (lp[i] if n == "e" else 1) for i in tokens) for n in "abcdef")
    return Answer(t, loss, {n: ("token", v) for n, v in out.items()})


@program("integers", """
extend nothing
a = position // 3
b = position % 3
c = (position - 4) // 3
d = (position - 4) % 3
e = min(position, 2) + max(position - 3, -1) + abs(position - 2) + clip(position, 1, 2)
f = real(position) / 2 + 7 / 2 + (-7) // 2 + (-7) % 4 + 7 % -4
g = 7.5 // 2 + (-7.5) % 2 + sum(position per rollout) % 5
h = floor(2.5 * position) + int(position > 1)
k = (if position == 2 then 1 else 0) + length // 2 + (if prompt % 2 == 0 then 1 else 0)
loss = mean((a + 2 * b + 3 * c + 4 * d + 5 * e + f + g + h + k) * logp)
minimize loss
""", small(210, mask=False))
def _(table, p):
    t = table
    lp, prompt = t.col("token/logp"), t.ints("group/prompt")
    out, terms = {n: {} for n in "abcdefghk"}, []
    for r in t.rollouts:
        n = len(t.tokens(r))
        for x, i in enumerate(t.tokens(r)):
            a, b, c, d = x // 3, x % 3, (x - 4) // 3, (x - 4) % 3
            e = min(x, 2) + max(x - 3, -1) + abs(x - 2) + min(max(x, 1), 2)
            f = x / 2 + 3.5 - 4 + 1 - 1
            g = 3.0 + 0.5 + (n * (n - 1) // 2) % 5
            h = math.floor(2.5 * x) + (x > 1)
            k = (x == 2) + n // 2 + (prompt[t.group_of[r]] % 2 == 0)
            for name, v in zip("abcdefhk", (a, b, c, d, e, f, h, k)):
                out[name][i] = v
            out["g"][r] = g
            terms.append((a + 2 * b + 3 * c + 4 * d + 5 * e + f + g + h + k) * lp[i])
    return Answer(t, mean(terms), {n: ("rollout" if n == "g" else "token", v) for n, v in out.items()})


@program("precedence", """
extend nothing
k1 = -2 ^ 2
k2 = 2 ^ 3 ^ 2
k3 = 2 ** 3 * 2
k4 = 10 - 4 - 3
k5 = 12 / 4 * 3
k6 = 7 - 2 * 3 % 4
k7 = if not true and false or true then 1 else 0
k8 = if 1 + 1 == 2 and 3 < 2 * 2 then 1 else 0
k9 = 2 * -3 - -1
k10 = if true then 1 else 0 + 5
k11 = (if false then 1 else 2) + 5
k12 = if not 1 > 2 then 3 else 4
k13 = 2 - 3 |> abs()
k14 = if false then 1 else if true then 2 else 3
loss = mean(logp @ token ^ 2) * (k1 + 2 * k2 + 3 * k3 + k4 + k5 + k6 + k7 + k8 + k9 + k10 + k11 + k12 + k13 + k14) / 1000
minimize loss
""", small(211, mask=False))
def _(table, p):
    t = table
    lp = t.col("token/logp")
    k = [-4, 512, 16, 3, 9, 5, 1, 1, -5, 1, 7, 3, 1, 2]
    weight = sum(v * w for v, w in zip(k, [1, 2, 3] + [1] * 11))
    values = {f"k{n + 1}": ("batch", {0: v}) for n, v in enumerate(k)}
    return Answer(t, mean(lp[i] ** 2 for i in t.tokens()) * weight / 1000, values)


@program("maximize", """
extend nothing
keep token where mask
gain = mean(reward @ token * exp(logp - old_logp))
maximize gain
metric gain = gain
""", small(212))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward = t.col("rollout/reward")
    gain = mean(reward[t.rollout_of[i]] * torch.exp(run.logp[i] - run.old[i]) for i in t.tokens())
    return Answer(t, -gain, {}, {"gain": gain})


@program("live_metrics", """
metric spread    = std(ratio)
metric top_ratio = max(ratio)
metric share_up  = mean(logp > old_logp)
metric clip_fraction = 0.5 * mean(is_clipped(ratio, advantage, clip_low, clip_high))
metric groups    = count(group)
# The batch has no such column: left out, with a note.
metric correct_steps = mean(step_correct)
""", vocab(213).without("turn/step_correct"))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    ratios = list(run.token_ratios().values())
    answer.metrics["clip_fraction"] *= 0.5
    answer.metrics.update(
        spread=deviation(ratios).item(),
        top_ratio=max(x.item() for x in ratios),
        share_up=mean(const(run.logp[i].item() > run.old[i].item()) for i in run.t.tokens()).item(),
        groups=len(run.t.groups),
    )
    return answer


@rebuildable
def scheduled(seed, **kw):
    b = small(seed, **kw)
    b.put("batch/train.step", [30], np.int64)
    b.put("batch/train.total", [120], np.int64)
    return b.put("batch/train.progress", [0.25], np.float64)


@program("schedule", """
param warm = 20
coef = if train.step < warm then 0 else 0.1 * (1 - train.progress) + 0.01 * train.step / train.total
loss = base.loss + coef * token_mean(logp)
metric coef = coef
""", scheduled(214))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    coef = 0.1 * 0.75 + 0.01 * 30 / 120
    answer.loss = answer.loss + coef * mean(run.logp[i] for i in run.t.tokens())
    answer.metrics["coef"] = coef
    return answer


@program("truncated_sampling", """
extend dapo
# Truncated importance sampling for the gap between sampler and trainer.
param tis_cap = 2.0
tis        = detach(min(exp(old_logp - sampler_logp), tis_cap))
token_loss = base.token_loss * tis
""", small(215), settings={"tis_cap": 1.02})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    sampler = t.col("token/sampler_logp")
    q = dict(clip_low=0.2, clip_high=0.28, beta=0.0)
    tis = {i: min(math.exp((run.old[i] - sampler[i]).item()), 1.02) for i in t.tokens()}

    def reduce(t, losses):
        return mean(losses[i] * tis[i] for i in t.tokens())

    answer = ppo_tokens(run, q, grpo_advantage(t), run.token_ratios(), reduce)
    answer.values["tis"] = ("token", tis)
    return answer


@program("param_types", """
param use_kl   = false
param rounds   = 3
param shift    = -0.5 in [-1, 1]
penalty    = if use_kl and rounds > 2 then kl_k2(logp, ref_logp) else if rounds // 2 == 1 then shift * logp else 0
token_loss = base.token_loss / rounds
""", small(217).without("token/ref_logp"), settings={"shift": 0.25, "clip_low": 0.1})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    q = dict(clip_low=0.1, clip_high=0.2, beta=0)

    def reduce(t, losses):
        return seq_mean(t, {i: (losses[i] + 0.25 * run.logp[i]) / 3 for i in losses})

    return ppo_tokens(run, q, grpo_advantage(t), run.token_ratios(), reduce)


@program("param_switch", """
param use_kl = false
penalty = if use_kl then kl_k2(logp, ref_logp) else 0
""", small(218), settings={"use_kl": "true"})
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    answer.loss = answer.loss + seq_mean(run.t, {i: (run.logp[i] - run.ref[i]) ** 2 / 2 for i in run.t.tokens()})
    return answer


@program("chosen_branches", """
extend nothing
keep token where mask
# Conditions coarser and finer than the branches, and branches that are truth values.
a    = if correct then logp else 2
b    = if token_reward > 0 then reward else 1
flag = if correct then truncated else token_reward > 0.2
loss = mean(a * b) + mean(logp where flag) + sum(if flag == correct then logp else 0) / 7 + mean(if count(flag per rollout) > 1 then exp(mean(logp per rollout)) else 1)
minimize loss
""", small(219))
def _(table, p):
    t = table.masked()
    lp, paid, reward = t.col("token/logp"), t.col("token/token_reward"), t.col("rollout/reward")
    correct, cut = t.ints("rollout/correct"), t.ints("rollout/truncated")
    flag, terms, same = {}, [], []
    for i in t.tokens():
        r = t.rollout_of[i]
        flag[i] = bool(cut[r]) if correct[r] else paid[i].item() > 0.2
        terms.append((lp[i] if correct[r] else const(2.0)) * (reward[r] if paid[i] > 0 else 1))
        if flag[i] == bool(correct[r]):
            same.append(lp[i])
    often = []
    for r in t.rollouts:
        mine = t.tokens(r)
        often.append(torch.exp(mean(lp[i] for i in mine)) if sum(flag[i] for i in mine) > 1 else const(1.0))
    loss = mean(terms) + mean(lp[i] for i in t.tokens() if flag[i]) + total(same) / 7 + mean(often)
    return Answer(t, loss, dict(flag=("token", flag)), coupling="rollout")
