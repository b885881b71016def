"""Inputs, policy columns, declared segmentations, families."""

from .common import *

@rebuildable
def weighted(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    return b.put("turn/weight", rng.uniform(0.2, 1.5, len(b.segmentations["turn"][0])))


@program("input_present", """
extend nothing
input weight : real @ turn = 0.5
keep token where mask
loss = -mean(weight * logp)
minimize loss
""", weighted(115))
def _(table, p):
    t = table.masked()
    lp, w, turn = t.col("token/logp"), t.col("turn/weight"), t.element_of()
    return Answer(t, -mean(w[turn[i]] * lp[i] for i in t.tokens()))


@rebuildable
def with_head(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    b.put("token/head", rng.normal(0, 1, n), np.float32, policy=True)
    return b.put("token/target", rng.normal(0, 1, n), np.float64)


@program("policy_column", """
extend nothing
policy head : real @ token
input target : real @ token
keep token where mask
loss = mean((head - target) ^ 2) - 0.1 * mean(head * logp)
minimize loss
""", with_head(116))
def _(table, p):
    t = table.masked()
    head, target, lp = t.col("token/head"), t.col("token/target"), t.col("token/logp")
    tokens = t.tokens()
    return Answer(t, mean((head[i] - target[i]) ** 2 - 0.1 * head[i] * lp[i] for i in tokens))


@rebuildable
def with_draft(seed, **kw):
    b = vocab(seed, **kw)
    draft = np.random.default_rng(seed).normal(0, 1, (sum(b.rollout_size), 8))
    return b.put("vocab/draft", draft, policy=True)


@program("policy_second_logits", """
extend nothing
policy draft : real @ vocab
keep token where mask
# Distillation of a draft head from the (fixed) policy, and its own likelihood.
teacher = detach(softmax(logits))
loss    = -mean(sum(teacher * log_softmax(draft) per token)) - 0.1 * mean(at(log_softmax(draft), action)) - 0.01 * mean(logp)
minimize loss
""", with_draft(117))
def _(table, p):
    t = table.masked()
    teacher = torch.softmax(t.col("vocab/logits"), -1).detach()
    own = torch.log_softmax(t.col("vocab/draft"), -1)
    action, lp = t.ints("token/action"), t.logp()
    terms = []
    for i in t.tokens():
        terms.append(-(teacher[i] * own[i]).sum() - 0.1 * own[i][action[i]] - 0.01 * lp[i])
    return Answer(t, mean(terms))


def item_objective(t, run):
    score = t.col("item/score")
    adv, ratio, losses = {}, {}, []
    for rollouts in t.live_groups:
        mine = [e for r in rollouts for e in t.elements(r, "item")]
        spread = deviation([score[e] for e in mine])
        for e, above in zip(mine, minus_mean([score[e] for e in mine])):
            adv[e] = above / (spread + 1e-6)
            ratio[e] = torch.exp(mean(run.logp[i] - run.old[i] for i in t.tokens_in(e, "item")))
            losses.append(-clip_objective(ratio[e], adv[e], 0.2, 0.2))
    return adv, ratio, losses


@program("segmentation", """
level item in rollout
input score : real @ item
advantage = norm(score per group)
ratio     = exp(mean(logp - old_logp per item))
loss      = -mean(surrogate)
metric clip_fraction = mean(is_clipped(ratio, advantage, clip_low, clip_high))
""", with_items(118))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio, losses = item_objective(t, run)
    cut = [is_clipped(ratio[e], adv[e], 0.2, 0.2) for e in adv]
    return Answer(t, mean(losses), {"advantage": ("item", adv), "ratio": ("item", ratio)},
                  {"clip_fraction": mean(cut), "approx_kl": run.approx_kl()}, "item")


@program("segmentation_empty", """
level item in rollout
input score : real @ item
advantage = norm(score per group)
ratio     = exp(mean(logp - old_logp per item))
loss      = -mean(surrogate)
metric items = count(item)
metric clip_fraction = 0
""", with_items(119, empty=True, empty_turns=True))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio, losses = item_objective(t, run)
    return Answer(t, mean(losses), {"advantage": ("item", adv), "ratio": ("item", ratio)},
                  {"items": len(losses), "clip_fraction": 0, "approx_kl": run.approx_kl()}, "item")


@program("two_segmentations", """
extend nothing
level item in rollout
keep token where mask
# A product of two sums: tokens of one rollout read each other through turns and through items.
loss = mean(mean(logp per turn) @ token * mean(logp per item) @ token)
minimize loss
""", with_items(120))
def _(table, p):
    t = table.masked()
    lp, turn, item = t.col("token/logp"), t.element_of(), t.element_of("item")

    def m(e, level):
        return mean(lp[j] for j in t.tokens_in(e, level))

    loss = mean(m(turn[i], "turn") * m(item[i], "item") for i in t.tokens())
    return Answer(t, loss, coupling="rollout")


@program("segmentations_apart", """
extend nothing
level item in rollout
keep token where mask
# Two sums of which one needs whole turns and the other whole items: only rollouts hold both.
loss = mean(exp(mean(logp per turn))) + mean(exp(mean(logp per item)))
minimize loss
""", with_items(121))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")

    def part(level):
        elements = [e for r in t.rollouts for e in t.elements(r, level)]
        return mean(torch.exp(mean(lp[i] for i in t.tokens_in(e, level))) for e in elements)

    return Answer(t, part("turn") + part("item"), coupling="rollout")


@rebuildable
def families(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    for k in (1, 2, 3):
        b.put(f"rollout/rewards.{k}", rng.choice([0.0, 0.5, 1.0], len(b.rollout_size)))
    return b


@program("families", """
param weights[3] = 0.5
input rewards[3] : real @ rollout
advantage = group_norm(sum(weights[k] * rewards[k] * k for k in 1..3)) + 0 * weights[2]
""", families(122), extra=True)
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward = {r: total(0.5 * k * t.col(f"rollout/rewards.{k}")[r] for k in (1, 2, 3)) for r in t.rollouts}
    return ppo_tokens(run, GRPO, z_scores(t, reward, 1e-4), run.token_ratios(), seq_mean)


@rebuildable
def with_critics(seed, **kw):
    b = small(seed, **kw)
    rng = np.random.default_rng(seed)
    b.put("turn/q_value", rng.normal(0, 1, len(b.segmentations["turn"][0])), policy=True)
    b.put("rollout/baseline", rng.normal(0, 1, len(b.rollout_size)), policy=True)
    b.put("rollout/flag", rng.random(len(b.rollout_size)) < 0.5, np.uint8)
    return b.put("token/kind", rng.integers(0, 3, sum(b.rollout_size)), np.int64)


@program("policy_coarse", """
extend nothing
policy q_value  : real @ turn
policy baseline : real @ rollout
input kind : int @ token
input flag : bool @ rollout
input late : bool @ turn = true
input cost : int @ group = 2
keep token where mask
to_go   = rcumsum(step_reward in rollout)
critic  = mean((q_value - to_go) ^ 2 where late) + mean((baseline - reward) ^ 2 where not flag)
weight  = if kind == 1 then 0.5 else if flag then 1 else cost
loss    = critic - 0.1 * mean(weight * (reward - detach(baseline)) * logp)
minimize loss
""", with_critics(123))
def _(table, p):
    t = table.masked()
    lp, q, base = t.col("token/logp"), t.col("turn/q_value"), t.col("rollout/baseline")
    steps, reward = t.col("turn/step_reward"), t.col("rollout/reward")
    kind, flag = t.ints("token/kind"), t.ints("rollout/flag")
    q_terms = []
    for r in t.rollouts:
        order = t.elements(r)
        q_terms += [(q[e] - total(steps[x] for x in order[k:])) ** 2 for k, e in enumerate(order)]
    critic = mean(q_terms) + mean((base[r] - reward[r]) ** 2 for r in t.rollouts if not flag[r])
    weight, terms = {}, []
    for i in t.tokens():
        r = t.rollout_of[i]
        weight[i] = 0.5 if kind[i] == 1 else 1 if flag[r] else 2
        terms.append(weight[i] * (reward[r] - base[r].detach()) * lp[i])
    # A term of a turn's or a rollout's own live values is one of that turn or rollout.
    return Answer(t, critic - 0.1 * mean(terms), dict(weight=("token", weight)), coupling="rollout")


@program("own_level", """
extend nothing
level item in rollout
input score : real @ item
keep token where mask
# Reductions per the value's own level, and levels that are brought down explicitly.
a = sum(reward per rollout) + mean(reward where correct per rollout) + std(reward per rollout)
b = real(count(rollout per rollout) + count(correct per rollout) + count(reward per rollout))
c = (if any(correct per rollout) then 1 else 0) + max(reward, default = 7 where correct per rollout) + prod(reward where truncated per rollout)
d = mean(score per rollout) + real(count(item per rollout)) + real(max(index(item in rollout) per group))
weight = -a @ token + b @ token * c @ turn @ token + (d @ item) @ token
loss = mean(weight * logp @ token)
minimize loss
""", with_items(124))
def _(table, p):
    t = table.masked()
    lp, reward, score = t.col("token/logp"), t.col("rollout/reward"), t.col("item/score")
    correct, cut = t.ints("rollout/correct"), t.ints("rollout/truncated")
    a, b, c, d = {}, {}, {}, {}
    for rs in t.live_groups:
        most = max(len(t.elements(r, "item")) for r in rs) - 1
        for r in rs:
            mine = t.elements(r, "item")
            a[r] = reward[r] + (reward[r] if correct[r] else 0)
            b[r] = 1 + correct[r] + 1
            c[r] = correct[r] + (reward[r] if correct[r] else 7) + (reward[r] if cut[r] else 1)
            d[r] = mean(score[e] for e in mine) + len(mine) + most
    weight = {}
    for i in t.tokens():
        r = t.rollout_of[i]
        weight[i] = -a[r] + b[r] * c[r] + d[r]
    values = {n: ("rollout", v) for n, v in zip("abcd", (a, b, c, d))}
    return Answer(t, mean(weight[i] * lp[i] for i in t.tokens()), {**values, "weight": ("token", weight)})
