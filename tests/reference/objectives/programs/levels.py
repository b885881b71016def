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
