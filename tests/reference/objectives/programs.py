"""Small programs that exercise the language, each beside an independent float64 reference.

`@program(name, source, batch, ...)` registers one case. The source is objective-language text; the
function below it computes the same in torch with plain loops and never looks at the source.
"""

import math

import numpy as np
import torch

from batches import calibadv_example, items, random_batch
from published import DEFAULTS, Run, calibrated, clip_objective, is_clipped, k3, ppo_tokens, seq_mean
from published import published, token_mean, turn_values, z_scores
from table import Answer, Batch, Table, ZERO, const, deviation, mean, minus_mean, total, variance

PROGRAMS = []


class Case:
    def __init__(self, name, source, batch, reference, settings=None, emit=(), files=None, extra=False, program=None):
        self.name, self.source, self.batch, self.reference = name, source, batch, reference
        self.settings, self.files = settings or {}, files or {}
        self.extra = extra  # beyond the first issue: may be "not implemented yet"
        self.program = program  # a stdlib name, where source is None


def program(name, source, batch, settings=None, files=None, extra=False):
    def register(reference):
        text = source.lstrip("\n")
        PROGRAMS.append(Case(name, text, batch, reference, settings, files=files, extra=extra))
        return reference

    return register


def small(seed, **kw):
    kw.setdefault("groups", (3, 1, 2))
    kw.setdefault("max_len", 6)
    kw.setdefault("vocab", None)
    kw.setdefault("equal_group", None)
    return random_batch(seed, **kw)


def vocab(seed, **kw):
    return small(seed, **{"vocab": 8, **kw})


GRPO = DEFAULTS["grpo"]


def grpo_advantage(t, eps=1e-4):
    return z_scores(t, t.col("rollout/reward"), eps)


# ---- extend, late binding, base ------------------------------------------------------------------


@program("override_advantage", """
advantage = center(reward)
""", small(101))
def _(table, p):
    run = Run(table, GRPO)
    adv, reward = {}, run.t.col("rollout/reward")
    for rollouts in run.t.live_groups:
        adv.update(zip(rollouts, minus_mean([reward[i] for i in rollouts])))
    return ppo_tokens(run, GRPO, adv, run.token_ratios(), seq_mean)


@program("override_ratio", """
# The surrogate and the metric of the base see the new ratio.
ratio = if position >= 2 then exp(logp - old_logp) else 1
""", small(102))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    ratio = {}
    for r in t.rollouts:
        first = t.all_tokens[r][0]
        for i in t.tokens(r):
            # position counts all tokens, masked ones too
            ratio[i] = torch.exp(run.logp[i] - run.old[i]) if i - first >= 2 else const(1.0)
    return ppo_tokens(run, GRPO, grpo_advantage(t), ratio, seq_mean)


@program("base_name", """
token_loss = base.token_loss + 0.01 * (logp - old_logp) ^ 2
""", vocab(103))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    extra = {i: 0.01 * (run.logp[i] - run.old[i]) ** 2 for i in run.t.tokens()}
    answer.loss = answer.loss + seq_mean(run.t, extra)
    return answer


@program("base_chain", """
extend "shifted.rl"
advantage = 2 * base.advantage
# A definition in the place of a param.
clip_high = 0.1 + 0.1 * mean(reward)
""", small(104), files={"shifted.rl": """extend dapo
advantage = base.advantage + 0.1
fn is_clipped(ratio, a, low, high) = ratio > 1 + high
"""})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv = {r: 2 * (a + 0.1) for r, a in grpo_advantage(t).items()}
    high = 0.1 + 0.1 * mean(t.col("rollout/reward")[r] for r in t.rollouts).item()
    q = dict(clip_low=0.2, clip_high=high, beta=0.0)
    answer = ppo_tokens(run, q, adv, run.token_ratios(), token_mean)
    ratio = run.token_ratios()
    answer.metrics["clip_fraction"] = float(mean(float(x.item() > 1 + high) for x in ratio.values()))
    return answer


@program("replaced_function", """
extend dapo
# A quadratic penalty in the place of the clip; the base calls it.
fn clipped(ratio, a, low, high) = ratio * a - high * (ratio - 1) ^ 2
""", small(105))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio = grpo_advantage(t), run.token_ratios()
    losses = {i: 0.28 * (ratio[i] - 1) ** 2 - ratio[i] * adv[t.rollout_of[i]] for i in t.tokens()}
    cut = [is_clipped(ratio[i], adv[t.rollout_of[i]], 0.2, 0.28) for i in t.tokens()]
    return Answer(t, token_mean(t, losses), {"ratio": ("token", ratio)},
                  {"clip_fraction": mean(cut), "approx_kl": run.approx_kl()})


@program("replaced_input", """
# A definition in the place of a column: the batch has no reward.
reward = real(correct) - 0.1 * real(truncated)
""", small(106).without("rollout/reward"))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    correct, truncated = t.ints("rollout/correct"), t.ints("rollout/truncated")
    reward = {r: const(correct[r] - 0.1 * truncated[r]) for r in t.rollouts}
    return ppo_tokens(run, GRPO, z_scores(t, reward, 1e-4), run.token_ratios(), seq_mean)


@program("replaced_logp", """
extend sft
# A prelude name: the likelihood with the tail cut off.
logp = log(softmax_floor + (1 - softmax_floor) * exp(at(log_softmax(logits), action)))
softmax_floor = 0.01
""", vocab(107))
def _(table, p):
    t = table.masked()
    logp = torch.log(0.01 + 0.99 * torch.exp(t.logp()))
    loss = -mean(logp[i] for i in t.tokens())
    return Answer(t, loss, {}, {"perplexity": torch.exp(loss)})


@program("layout", """
extend nothing      # a comment after a statement

## Documentation of the mask,
## on two lines.
loss_mask = mask

keep token where
  loss_mask

# Closing brackets may stand in column one.
loss = seq_mean(
  0.5 * (
    logp
      - old_logp   # continued
  ) ^ 2
)

minimize
  loss
metric two = 1 +
  1
""", small(108))
def _(table, p):
    run = Run(table, GRPO)
    losses = {i: 0.5 * (run.logp[i] - run.old[i]) ** 2 for i in run.t.tokens()}
    return Answer(run.t, seq_mean(run.t, losses), {}, {"two": 2.0})


# ---- functions -----------------------------------------------------------------------------------


@program("function_scope", """
extend nothing
input weight : real @ turn = 0.5
param scale = 2.0

fn spread(x, by = scale per L = rollout) =
  centre = mean(x per L)
  by * (x - centre) ^ 2

loss = mean(spread(logp)) + mean(spread(logp, by = 3 per turn)) + mean(weight * spread(logp, 0.5 per group))
minimize loss
metric weight_mean = mean(weight)
""", small(110), settings={"scale": 1.5})
def _(table, p):
    t = table
    lp = t.col("token/logp")

    def around(blocks):
        return {i: (lp[i] - mean(lp[j] for j in b)) ** 2 for b in blocks for i in b}

    by_rollout = around([t.tokens(r) for r in t.rollouts])
    by_turn = around([t.tokens_in(s) for r in t.rollouts for s in t.elements(r)])
    by_group = around([[i for r in rs for i in t.tokens(r)] for rs in t.live_groups])
    loss = 1.5 * mean(by_rollout.values()) + 3 * mean(by_turn.values()) + 0.25 * mean(by_group.values())
    return Answer(t, loss, {}, {"weight_mean": 0.5}, "group")


@program("function_nesting", """
extend nothing
fn square(x) = x ^ 2
fn hinge(x, at_least = 0) = relu(x - at_least)
fn mixed(logp, share = 0.25) =
  # The parameter hides the program's logp; square and gap are the program's.
  near = square(logp - gap)
  far  = hinge(square(logp), at_least = gap)
  share * near + (1 - share) * far
gap  = 0.5
loss = mean(mixed(old_logp + 2 * logp, share = 0.75)) + mean(mixed(logp))
minimize loss
""", small(111, mask=False))
def _(table, p):
    lp, old = table.col("token/logp"), table.col("token/old_logp")

    def mixed(x, share):
        return share * (x - 0.5) ** 2 + (1 - share) * torch.relu(x**2 - 0.5)

    loss = mean(mixed(old[i] + 2 * lp[i], 0.75) + mixed(lp[i], 0.25) for i in table.tokens())
    return Answer(table, loss)


@program("pipes", """
extend nothing
fn shrink(x, by, floor_at = -10) = max(x * by, floor_at)
keep token where mask
loss = mean(logp - old_logp |> clip(-0.5, 0.5) |> shrink(2, floor_at = -0.3))
minimize loss
""", small(112))
def _(table, p):
    run = Run(table, GRPO)
    terms = [
        torch.maximum(2 * torch.clamp(run.logp[i] - run.old[i], -0.5, 0.5), const(-0.3)) for i in run.t.tokens()
    ]
    return Answer(run.t, mean(terms))


@program("pipes_into_reductions", """
extend nothing
keep token where mask
loss = exp(logp - old_logp) |> mean(per rollout) |> mean() |> clip(0, 100)
minimize loss
""", small(113))
def _(table, p):
    run = Run(table, GRPO)
    return Answer(run.t, seq_mean(run.t, run.token_ratios()), coupling="batch")


@program("function_scope_handed_on", """
extend nothing
fn above(x per L = group) = x - mean(x per L)
fn scaled(x, eps = 0.01 per L = rollout) = norm(x, eps = eps per L) + 0.5 * above(x per L)
keep token where mask
weight = scaled(reward, eps = 0.1 per group) + scaled(step_reward) + above(reward) + mean(reward per batch)
loss   = mean(scaled(token_reward per turn) * logp) + mean(weight @ token * logp)
minimize loss
""", small(114))
def _(table, p):
    t = table.masked()
    lp, reward, steps, paid = (t.col(n) for n in ("token/logp", "rollout/reward", "turn/step_reward", "token/token_reward"))

    def scaled(keys, column, eps):
        values = [column[k] for k in keys]
        spread = deviation(values)
        return {k: up / (spread + eps) + 0.5 * up for k, up in zip(keys, minus_mean(values))}

    by_group, above, by_rollout, by_turn = {}, {}, {}, {}
    for rs in t.live_groups:
        by_group.update(scaled(rs, reward, 0.1))
        above.update(zip(rs, minus_mean([reward[r] for r in rs])))
    every = mean(reward[r] for r in t.rollouts)
    for r in t.rollouts:
        by_rollout.update(scaled(t.elements(r), steps, 0.01))
        for e in t.elements(r):
            by_turn.update(scaled(t.tokens_in(e), paid, 0.01))
    turn, terms, weight = t.element_of(), [], {}
    for r in t.rollouts:
        for e in t.elements(r):
            weight[e] = by_group[r] + by_rollout[e] + above[r] + every
    terms = [(by_turn[i] + weight[turn[i]]) * lp[i] for i in t.tokens()]
    return Answer(t, mean(terms), dict(weight=("turn", weight)))


# ---- inputs, policies, levels --------------------------------------------------------------------


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


def with_head(seed):
    b = small(seed)
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


@program("policy_second_logits", """
extend nothing
policy draft : real @ vocab
keep token where mask
# Distillation of a draft head from the (fixed) policy, and its own likelihood.
teacher = detach(softmax(logits))
loss    = -mean(sum(teacher * log_softmax(draft) per token)) - 0.1 * mean(at(log_softmax(draft), action)) - 0.01 * mean(logp)
minimize loss
""", vocab(117).put("vocab/draft", np.random.default_rng(117).normal(0, 1, (len(vocab(117).columns["token/mask"]), 8)), policy=True))
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
""", items(small(118), 118))
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
""", items(small(119, empty_turns=True), 119, empty=True))
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
""", items(small(120), 120))
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
""", items(small(121), 121))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")

    def part(level):
        elements = [e for r in t.rollouts for e in t.elements(r, level)]
        return mean(torch.exp(mean(lp[i] for i in t.tokens_in(e, level))) for e in elements)

    return Answer(t, part("turn") + part("item"), coupling="rollout")


def families(seed):
    b = small(seed)
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


# ---- filters -------------------------------------------------------------------------------------


@program("filters_one_file", """
extend nothing
# No condition sees what another one of the same file removes: the sum is over all tokens.
keep token where mask
keep rollout where sum(token_reward per rollout) > 0
drop token where old_logp < -2.5
drop group where max(reward per group) == min(reward per group)
loss = mean(mean(-logp * token_reward per rollout)) + 0.1 * mean(mean(logp per group))
minimize loss
metric groups   = count(group)
metric rollouts = count(rollout)
metric tokens   = count(token)
""", small(130, groups=(3, 2, 4, 1), equal_group=1))
def _(table, p):
    t = table
    reward, paid, old, lp = (t.col(n) for n in ("rollout/reward", "token/token_reward", "token/old_logp", "token/logp"))
    mask = t.ints("token/mask")
    good = {r: total(paid[i] for i in t.all_tokens[r]) > 0 for r in t.rollouts}
    mixed = [len({reward[r].item() for r in rs}) > 1 for rs in t.groups]
    t = t.keep_tokens(lambda i: mask[i] and old[i] >= -2.5).keep_rollouts(lambda r: good[r]).keep_groups(lambda g: mixed[g])
    first = mean(mean(-lp[i] * paid[i] for i in t.tokens(r)) for r in t.rollouts)
    second = mean(mean(lp[i] for r in rs for i in t.tokens(r)) for rs in t.live_groups)
    counts = dict(groups=len(t.group_ids), rollouts=len(t.rollouts), tokens=len(t.tokens()))
    return Answer(t, first + 0.1 * second, {}, counts)


@program("filters_chain", """
extend "short.rl"
# Sees the rollouts that the base's filters left.
keep group where count(rollout per group) > 1
""", small(131, groups=(3, 2, 4, 2)), files={"short.rl": """# Sees the tokens that grpo's mask left.
drop rollout where mean(old_logp per rollout) < -1.2
"""})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    t = t.keep_rollouts(lambda r: mean(run.old[i] for i in t.tokens(r)) >= -1.2)
    sizes = [len(rs) for rs in t.live_groups]
    t = t.keep_groups(lambda g: sizes[g] > 1)
    run.t = t
    return ppo_tokens(run, GRPO, grpo_advantage(t), run.token_ratios(), seq_mean)


@program("dynamic_sampling", """
extend dapo
keep group where std(reward per group) > 0
""", small(132, groups=(3, 2, 4, 1), equal_group=0))
def _(table, p):
    run = Run(table, GRPO)
    reward = run.t.col("rollout/reward")
    groups = run.t.groups
    run.t = run.t.keep_groups(lambda g: len({reward[r].item() for r in groups[g]}) > 1)
    q = dict(clip_low=0.2, clip_high=0.28, beta=0.0)
    return ppo_tokens(run, q, grpo_advantage(run.t), run.token_ratios(), token_mean)


@program("loss_mask", """
# The base's filter reads the new mask; its condition sees all tokens, masked ones too.
loss_mask = mask and not is_first(token in rollout) and position < length - 1
""", small(133))
def _(table, p):
    run = Run(table, GRPO)
    t = table
    mask = t.ints("token/mask")
    inner = {i for ts in t.all_tokens for i in ts[1:-1]}
    run.t = t.keep_tokens(lambda i: mask[i] and i in inner)
    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)


@program("overlong", """
extend dapo
param max_len = 5
param buffer  = 2
overlong  = clip((length - (max_len - buffer)) / buffer, 0, 1)
advantage = group_norm(reward - overlong)
loss_mask = mask and not truncated
""", small(134), settings={"max_len": 6})
def _(table, p):
    run = Run(table, GRPO)
    cut, mask = table.ints("rollout/truncated"), table.ints("token/mask")
    t = table.keep_tokens(lambda i: mask[i] and not cut[table.rollout_of[i]])
    run.t = t
    reward = t.col("rollout/reward")
    shaped = {}
    for r in t.rollouts:
        excess = (len(t.all_tokens[r]) - (6 - 2)) / 2
        shaped[r] = reward[r] - min(max(excess, 0), 1)
    q = dict(clip_low=0.2, clip_high=0.28, beta=0.0)
    return ppo_tokens(run, q, z_scores(t, shaped, 1e-4), run.token_ratios(), token_mean)


@program("filter_two_values", """
# `spread` is read by a condition, before the filter, and by the loss, after it.
spread = std(old_logp per rollout)
drop token where old_logp < -1 - spread
loss = base.loss + 0.1 * mean(spread * mean(logp per rollout))
""", small(135))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    before = {r: deviation([run.old[i] for i in t.tokens(r)]) for r in t.rollouts}
    t = t.keep_tokens(lambda i: run.old[i] >= -1 - before[t.rollout_of[i]])
    run.t = t
    answer = ppo_tokens(run, GRPO, grpo_advantage(t), run.token_ratios(), seq_mean)
    terms = []
    for r in t.rollouts:
        after = deviation([run.old[i] for i in t.tokens(r)])
        terms.append(after * mean(run.logp[i] for i in t.tokens(r)))
    answer.loss = answer.loss + 0.1 * mean(terms)
    return answer


@program("filter_live", """
extend nothing
# A condition on the policy itself; the sum needs no count.
keep token where mask
keep token where logp > old_logp - 0.2
loss = -sum(logp * old_logp) / 10
minimize loss
metric tokens = count(token)
""", small(136, wild=0.4))
def _(table, p):
    lp, old = table.col("token/logp"), table.col("token/old_logp")
    t = table.masked().keep_tokens(lambda i: lp[i] > old[i] - 0.2)
    loss = -total(lp[i] * old[i] for i in t.tokens()) / 10
    return Answer(t, loss, {}, {"tokens": len(t.tokens())})


@program("filter_live_rollouts", """
keep rollout where mean(logp - old_logp per rollout) < 0.1
""", small(137, groups=(4, 3)))
def _(table, p):
    # Which rollouts a group's statistics and the means count depends on the policy.
    run = Run(table, GRPO)
    t = run.t
    gap = {r: mean(run.logp[i] - run.old[i] for i in t.tokens(r)).item() for r in t.rollouts}
    run.t = t.keep_rollouts(lambda r: gap[r] < 0.1)
    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean, "batch")


# ---- reductions ----------------------------------------------------------------------------------


@program("reductions_where", """
extend nothing
keep token where mask
good = mean(logp where token_reward > 0 per rollout)
bad  = mean(logp where not (token_reward > 0) per rollout)
# A condition at a coarser level than the elements.
won  = sum(logp where correct per group)
loss = mean(good) - 0.5 * mean(bad where count(token per rollout) > 1) + 0.01 * mean(won)
minimize loss
""", small(140))
def _(table, p):
    t = table.masked()
    lp, paid, correct = t.col("token/logp"), t.col("token/token_reward"), t.ints("rollout/correct")
    good = {r: mean(lp[i] for i in t.tokens(r) if paid[i] > 0) for r in t.rollouts}
    bad = {r: mean(lp[i] for i in t.tokens(r) if not paid[i] > 0) for r in t.rollouts}
    won = {g: total(lp[i] for r in rs if correct[r] for i in t.tokens(r)) for g, rs in enumerate(t.groups)}
    longer = [bad[r] for r in t.rollouts if len(t.tokens(r)) > 1]
    loss = mean(good.values()) - 0.5 * mean(longer) + 0.01 * mean(won.values())
    return Answer(t, loss, dict(good=("rollout", good), bad=("rollout", bad), won=("group", won)))


@program("reductions_live", """
extend nothing
keep token where mask
peak   = max(logp per rollout)
trough = min(logp per turn)
wide   = var(logp per rollout)
narrow = std(logp, ddof = 0 per turn)
apart  = std(logp per group)
loss = mean(peak) + 2 * mean(trough) + mean(wide) - mean(narrow) + 0.1 * mean(apart)
minimize loss
""", small(141, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp = t.col("token/logp")
    peak, wide, trough, narrow = {}, {}, {}, {}
    for r in t.rollouts:
        mine = [lp[i] for i in t.tokens(r)]
        peak[r] = max(mine, key=lambda v: v.item()) if mine else ZERO
        wide[r] = variance(mine)
        for s in t.elements(r):
            part = [lp[i] for i in t.tokens_in(s)]
            trough[s] = min(part, key=lambda v: v.item()) if part else ZERO
            narrow[s] = deviation(part, ddof=0)
    apart = {g: deviation([lp[i] for r in rs for i in t.tokens(r)]) for g, rs in enumerate(t.groups)}
    loss = (mean(peak.values()) + 2 * mean(trough.values()) + mean(wide.values()) - mean(narrow.values())
            + 0.1 * mean(apart.values()))
    return Answer(t, loss, dict(peak=("rollout", peak), wide=("rollout", wide), trough=("turn", trough),
                                narrow=("turn", narrow), apart=("group", apart)), coupling="group")


def with_pivot(seed):
    """A column that equals logp at one token of rollout 0 and at two of the last group."""
    b = small(seed, groups=(3, 3), mask=False, one_token=False)
    lp = b.columns["token/logp"]
    pivot = lp - 1.5
    starts = np.concatenate([[0], np.cumsum(b.rollout_size)])
    for i in (starts[0], starts[4], starts[4] + 1):
        pivot[i] = lp[i]
    return b.put("token/pivot", pivot)


@program("reductions_product", """
extend nothing
input pivot : real @ token
start  = first(logp per rollout)
finish = last(logp per turn)
# One factor of 0 leaves the gradient of that factor, two leave none.
factor = prod((logp - pivot) per rollout)
odds   = prod(1 - exp(logp) per turn)
loss = mean(start) + 0.5 * mean(finish) + mean(factor) + mean(odds)
minimize loss
""", with_pivot(142))
def _(table, p):
    t = table
    lp, pivot = t.col("token/logp"), t.col("token/pivot")
    start = {r: lp[t.tokens(r)[0]] for r in t.rollouts}
    finish = {s: lp[t.tokens_in(s)[-1]] for r in t.rollouts for s in t.elements(r)}

    def product(values):
        out = const(1.0)
        for v in values:
            out = out * v
        return out

    factor = {r: product(lp[i] - pivot[i] for i in t.tokens(r)) for r in t.rollouts}
    odds = {s: product(1 - torch.exp(lp[i]) for i in t.tokens_in(s)) for r in t.rollouts for s in t.elements(r)}
    loss = mean(start.values()) + 0.5 * mean(finish.values()) + mean(factor.values()) + mean(odds.values())
    return Answer(t, loss, dict(start=("rollout", start), finish=("turn", finish), factor=("rollout", factor),
                                odds=("turn", odds)), coupling="rollout")


def quantile(values, q):
    """Linear between the order statistics at q * (n - 1)."""
    values = sorted(values, key=lambda v: v.item())
    if not values:
        return ZERO
    place = q * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


@program("quantiles", """
extend nothing
param share = 0.3
keep token where mask
low  = quantile(logp, share per rollout)
mid  = quantile(old_logp, 0.5 per group)
loss = mean(low) + mean(logp where old_logp > mid) + 0.1 * quantile(logp, 0.9)
minimize loss
metric top = quantile(reward, 1.0)
""", small(143), settings={"share": 0.4})
def _(table, p):
    t = table.masked()
    lp, old, reward = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/reward")
    low = {r: quantile([lp[i] for i in t.tokens(r)], 0.4) for r in t.rollouts}
    mid = {g: quantile([old[i] for r in rs for i in t.tokens(r)], 0.5) for g, rs in enumerate(t.groups)}
    upper = [lp[i] for i in t.tokens() if old[i] > mid[t.group_of[t.rollout_of[i]]]]
    loss = mean(low.values()) + mean(upper) + 0.1 * quantile([lp[i] for i in t.tokens()], 0.9)
    return Answer(t, loss, dict(low=("rollout", low), mid=("group", mid)),
                  {"top": max(reward[r].item() for r in t.rollouts)}, "batch")


@program("logsumexps", """
extend nothing
keep token where mask
# Of nothing -inf, which exp and the branch not taken turn into 0.
energy = logsumexp(2 * logp per rollout)
safe   = if count(token per rollout) > 0 then energy else 0
low    = logsumexp(if token_reward > 0 then logp else -inf per rollout)
loss   = mean(safe) + mean(exp(logsumexp(logp where token_reward > 0 per turn))) + mean(if low > -inf then low else 0)
minimize loss
""", small(144, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    safe = {r: torch.log(total(torch.exp(2 * lp[i]) for i in t.tokens(r))) if t.tokens(r) else ZERO for r in t.rollouts}
    parts = []
    for r in t.rollouts:
        for s in t.elements(r):
            parts.append(total(torch.exp(lp[i]) for i in t.tokens_in(s) if paid[i] > 0))
    low = []
    for r in t.rollouts:
        some = [torch.exp(lp[i]) for i in t.tokens(r) if paid[i] > 0]
        low.append(torch.log(total(some)) if some else ZERO)
    return Answer(t, mean(safe.values()) + mean(parts) + mean(low), dict(safe=("rollout", safe)), coupling="rollout")


def quarters(seed):
    """Columns on a grid of 1/4, so that ties are exact in every precision."""
    b = small(seed, groups=(3, 2, 2), mask=False)
    rng = np.random.default_rng(seed)
    n = sum(b.rollout_size)
    b.put("token/logp", -rng.integers(1, 6, n) / 4)
    b.put("token/other", -rng.integers(1, 6, n) / 4)
    # All equal in the last but one rollout.
    start = int(np.sum(b.rollout_size[:-2]))
    b.columns["token/logp"][start : start + b.rollout_size[-2]] = -0.75
    return b


@program("ties", """
extend nothing
input other : real @ token
gap  = logp - other
top  = max(logp per rollout)
low  = min(logp per rollout)
loss = mean(top) - 0.5 * mean(low) + mean(max(logp, other)) + 0.25 * mean(min(logp, other))
       + 2 * mean(clip(logp, -1, -0.5)) + mean(abs(gap)) + mean(relu(gap)) + mean(sqrt(relu(gap)))
       + mean(sign(gap)) + mean(gap ^ 2 - gap ^ 3) + mean(std(logp per rollout)) + 0.1 * mean(max(logp, other, -0.75))
minimize loss
""", quarters(145))
def _(table, p):
    t = table
    lp, other = t.col("token/logp"), t.col("token/other")

    def extreme(values, pick):
        best = pick(v.item() for v in values)
        return mean(v for v in values if v.item() == best)  # a tie shares the gradient equally

    def root(x):
        return torch.sqrt(x) if x.item() > 0 else ZERO

    top = {r: extreme([lp[i] for i in t.tokens(r)], max) for r in t.rollouts}
    low = {r: extreme([lp[i] for i in t.tokens(r)], min) for r in t.rollouts}
    terms = []
    for i in t.tokens():
        gap = lp[i] - other[i]
        side = (gap > 0).double() - (gap < 0).double()
        clip_grad = lp[i] if -1 <= lp[i].item() <= -0.5 else const(min(max(lp[i].item(), -1), -0.5))
        pair = [lp[i], other[i]]
        three = pair + [const(-0.75)]
        terms.append(
            extreme(pair, max) + 0.25 * extreme(pair, min) + 2 * clip_grad + side * gap
            + (gap if gap > 0 else ZERO) + root(gap if gap > 0 else ZERO) + side
            + gap * gap - gap * gap * gap
            + 0.1 * extreme(three, max)
        )
    spreads = [deviation([lp[i] for i in t.tokens(r)]) for r in t.rollouts]
    loss = mean(top.values()) - 0.5 * mean(low.values()) + mean(terms) + mean(spreads)
    return Answer(t, loss, dict(top=("rollout", top), low=("rollout", low)), coupling="rollout")


@program("reduction_defaults", """
extend nothing
keep token where mask
best  = max(token_reward, default = -1 where token_reward > 0.5 per rollout)
worst = min(token_reward, default = 2 where token_reward < -0.5 per rollout)
peak  = max(logp, default = 5 where token_reward > 0 per rollout)
loss  = mean((best + worst) @ token * logp) + mean(peak)
minimize loss
""", small(146))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    best = {r: max((paid[i] for i in t.tokens(r) if paid[i] > 0.5), default=const(-1)) for r in t.rollouts}
    worst = {r: min((paid[i] for i in t.tokens(r) if paid[i] < -0.5), default=const(2)) for r in t.rollouts}
    peak = {r: max((lp[i] for i in t.tokens(r) if paid[i] > 0), default=const(5)) for r in t.rollouts}
    first = mean((best[t.rollout_of[i]] + worst[t.rollout_of[i]]) * lp[i] for i in t.tokens())
    return Answer(t, first + mean(peak.values()),
                  dict(best=("rollout", best), worst=("rollout", worst), peak=("rollout", peak)), coupling="rollout")


@program("truth_values", """
extend nothing
keep token where mask
drop rollout where truncated and correct
share  = mean(correct per group)
solved = count(correct per group)
size   = count(rollout per group)
some   = any(correct per group)
every  = all(correct per group)
long   = count(token per rollout) >= 2
weight = share + real(solved) / 4 + (if some then 1 else 0) + (if every then 2 else 0) + sum(correct per group)
loss   = mean((weight + int(correct) + real(long)) @ token * logp)
minimize loss
metric share_long = mean(long)
metric not_equal  = mean(correct != long)
""", small(147, groups=(2, 1, 3, 2, 1)))
def _(table, p):
    t = table.masked()
    lp, correct, cut = t.col("token/logp"), t.ints("rollout/correct"), t.ints("rollout/truncated")
    t = t.keep_rollouts(lambda r: not (cut[r] and correct[r]))
    share, solved, size, some, every, weight = {}, {}, {}, {}, {}, {}
    for g, rs in enumerate(t.live_groups):
        won = sum(correct[r] for r in rs)
        share[g] = won / len(rs) if rs else 0
        solved[g], size[g] = won, len(rs)
        some[g], every[g] = won > 0, won == len(rs)
        weight[g] = share[g] + won / 4 + some[g] + 2 * every[g] + won
    long = {r: len(t.tokens(r)) >= 2 for r in t.rollouts}
    terms = []
    for i in t.tokens():
        r = t.rollout_of[i]
        terms.append((weight[t.group_of[r]] + correct[r] + long[r]) * lp[i])
    return Answer(
        t, mean(terms),
        dict(share=("group", share), solved=("group", solved), size=("group", size), some=("group", some),
             every=("group", every), weight=("group", weight)),
        dict(share_long=mean(const(v) for v in long.values()),
             not_equal=mean(const(bool(correct[r]) != long[r]) for r in t.rollouts)),
    )


@program("broadcast_before_mean", """
extend nothing
by_rollout = mean(reward per group)
by_token   = mean(reward @ token per group)
loss = mean((reward - by_rollout) @ token * logp) + mean((reward - by_token) @ token * logp ^ 2)
minimize loss
""", small(148, mask=False))
def _(table, p):
    t = table
    lp, reward = t.col("token/logp"), t.col("rollout/reward")
    plain = {g: mean(reward[r] for r in rs) for g, rs in enumerate(t.groups)}
    weighted_ = {g: mean(reward[r] for r in rs for _ in t.tokens(r)) for g, rs in enumerate(t.groups)}
    terms = []
    for i in t.tokens():
        r = t.rollout_of[i]
        g = t.group_of[r]
        terms.append((reward[r] - plain[g]) * lp[i] + (reward[r] - weighted_[g]) * lp[i] ** 2)
    return Answer(t, mean(terms), dict(by_rollout=("group", plain), by_token=("group", weighted_)))


@program("means_of_means", """
loss = mean(mean(mean(token_loss per rollout) per group))
""", small(149, groups=(4, 1, 2)))
def _(table, p):
    run = Run(table, GRPO)

    def reduce(t, losses):
        return mean(mean(mean(losses[i] for i in t.tokens(r)) for r in rs) for rs in t.live_groups)

    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), reduce)


@program("turn_statistics", """
extend nothing
keep token where mask
turns  = count(turn per rollout)
best   = max(step_correct per group)
last_q = last(step_correct per rollout)
weight = (step_correct - mean(step_correct per rollout)) * real(turns) + best - last_q + quantile(step_reward, 0.25 per group)
loss   = mean(weight * logp)
minimize loss
metric turns = mean(turns)
""", small(150, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, q, paid = t.col("token/logp"), t.col("turn/step_correct"), t.col("turn/step_reward")
    weight, counts = {}, []
    for rs in t.live_groups:
        mine = [e for r in rs for e in t.elements(r)]
        best, low = max(q[e] for e in mine), quantile([paid[e] for e in mine], 0.25)
        for r in rs:
            order = t.elements(r)
            counts.append(const(len(order)))
            m = mean(q[e] for e in order)
            for e in order:
                weight[e] = (q[e] - m) * len(order) + best - q[order[-1]] + low
    turn = t.element_of()
    return Answer(t, mean(weight[turn[i]] * lp[i] for i in t.tokens()), dict(weight=("turn", weight)),
                  {"turns": mean(counts)})


# ---- vocab level ---------------------------------------------------------------------------------


@program("vocab_collision", """
extend nothing
keep token where mask
p2   = sum(softmax(logits / temperature) ^ 2 per token)
loss = mean(p2) - 0.5 * mean(logp)
minimize loss
""", vocab(160), settings={"temperature": 1.3})
def _(table, p):
    t = table.masked()
    probs = torch.softmax(t.col("vocab/logits") / 1.3, -1)
    lp = t.logp(1.3)
    p2 = {i: (probs[i] ** 2).sum() for i in t.tokens()}
    return Answer(t, mean(p2.values()) - 0.5 * mean(lp[i] for i in t.tokens()), dict(p2=("token", p2)))


@program("vocab_kl", """
extend nothing
keep token where mask
full_kl = sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)
loss    = seq_mean(full_kl)
minimize loss
""", vocab(161))
def _(table, p):
    t = table.masked()
    own = torch.log_softmax(t.col("vocab/logits"), -1)
    ref = torch.log_softmax(t.col("vocab/ref_logits"), -1)
    kl = {i: (own[i].exp() * (own[i] - ref[i])).sum() for i in t.tokens()}
    return Answer(t, seq_mean(t, kl), dict(full_kl=("token", kl)))


@program("vocab_forward_kl", """
extend nothing
keep token where mask
# To a fixed teacher, with the row's weight above the mean only.
teacher = softmax(ref_logits)
gain    = sum(teacher * log_softmax(logits) per token)
loss    = -mean(gain where max(teacher per token) > 0.4)
minimize loss
""", vocab(162))
def _(table, p):
    t = table.masked()
    own = torch.log_softmax(t.col("vocab/logits"), -1)
    teacher = torch.softmax(t.col("vocab/ref_logits"), -1)
    gain = {i: (teacher[i] * own[i]).sum() for i in t.tokens()}
    sure = [gain[i] for i in t.tokens() if teacher[i].max() > 0.4]
    return Answer(t, -mean(sure), dict(gain=("token", gain)))


@program("vocab_z_loss", """
extend nothing
z    = logsumexp(logits per token)
loss = 0.01 * mean(z ^ 2) - mean(at(logits, action) - z) + 0.1 * mean(at(softmax(logits), (action + 1) % 8))
minimize loss
""", vocab(163, mask=False))
def _(table, p):
    t = table
    logits, action = t.col("vocab/logits"), t.ints("token/action")
    z = {i: torch.logsumexp(logits[i], 0) for i in t.tokens()}
    terms = []
    for i in t.tokens():
        after = torch.exp(logits[i][(action[i] + 1) % 8] - z[i])
        terms.append(0.01 * z[i] ** 2 - (logits[i][action[i]] - z[i]) + 0.1 * after)
    return Answer(t, mean(terms), dict(z=("token", z)))


@program("vocab_reductions", """
extend nothing
keep token where mask
peak   = max(logits per token)
trough = min(logits per token)
middle = mean(logits per token)
spread = std(logits per token)
margin = peak - at(logits, action)
likely = sum(softmax(logits) where ref_logits > 0 per token)
local  = logsumexp(logits where ref_logits > -1 per token)
size   = count(logits per token)
loss   = mean(margin) + 0.1 * mean(spread) + mean(likely ^ 2) + 0.2 * mean(local - middle) + 0.01 * mean(trough) - mean(logp) / real(max(size))
minimize loss
metric agree = mean(at(logits, action) == peak)
""", vocab(164))
def _(table, p):
    t = table.masked()
    logits, ref, action, lp = t.col("vocab/logits"), t.col("vocab/ref_logits"), t.ints("token/action"), t.logp()
    out = {n: {} for n in ("peak", "trough", "middle", "spread", "margin", "likely", "local", "size")}
    terms, agree = [], []
    for i in t.tokens():
        row = logits[i]
        probs = torch.softmax(row, 0)
        m = row.mean()
        out["peak"][i], out["trough"][i], out["middle"][i] = row.max(), row.min(), m
        out["spread"][i] = torch.sqrt(((row - m) ** 2).sum() / 7)
        out["margin"][i] = row.max() - row[action[i]]
        out["likely"][i] = probs[ref[i] > 0].sum()
        out["local"][i] = torch.logsumexp(row[ref[i] > -1], 0)
        out["size"][i] = 8
        terms.append(out["margin"][i] + 0.1 * out["spread"][i] + out["likely"][i] ** 2
                     + 0.2 * (out["local"][i] - m) + 0.01 * row.min() - lp[i] / 8)
        agree.append(float(row[action[i]].item() == row.max().item()))
    return Answer(t, mean(terms), {n: ("token", v) for n, v in out.items()}, {"agree": mean(agree)})


@program("vocab_threshold", """
extend nothing
keep token where mask
# A live condition inside the row, and a value that comes back down from the row's reduction.
p      = softmax(logits)
sure   = sum(if p > 0.1 then p else 0 per token)
excess = sum(relu(logits - mean(logits per token)) ^ 2 per token)
loss   = -mean(log(sure)) + 0.05 * mean(excess)
minimize loss
""", vocab(165, vocab=7))
def _(table, p):
    t = table.masked()
    logits = t.col("vocab/logits")
    sure, excess = {}, {}
    for i in t.tokens():
        probs = torch.softmax(logits[i], 0)
        sure[i] = probs[probs > 0.1].sum()
        excess[i] = (torch.relu(logits[i] - logits[i].mean()) ** 2).sum()
    loss = -mean(torch.log(v) for v in sure.values()) + 0.05 * mean(excess.values())
    return Answer(t, loss, dict(sure=("token", sure), excess=("token", excess)))


@program("entropy_bonus", """
token_loss = base.token_loss - 0.01 * entropy
metric entropy = token_mean(entropy)
""", vocab(166, vocab=12, inf_logits=True), settings={"temperature": 0.7})
def _(table, p):
    q = dict(GRPO, temperature=0.7)
    run = Run(table, q)
    answer = ppo_tokens(run, q, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    h = run.t.entropy(0.7)
    answer.loss = answer.loss - 0.01 * seq_mean(run.t, {i: h[i] for i in run.t.tokens()})
    answer.metrics["entropy"] = float(mean(h[i].detach() for i in run.t.tokens()))
    answer.values["entropy"] = ("token", {i: h[i] for i in run.t.tokens()})
    return answer


@program("entropy_column", """
token_loss = base.token_loss - 0.01 * entropy ^ 2
""", small(167))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    h = run.t.entropy()
    answer.loss = answer.loss - 0.01 * seq_mean(run.t, {i: h[i] ** 2 for i in run.t.tokens()})
    return answer


def far_logits(seed):
    b = vocab(seed, wild=0)
    logits = b.columns["vocab/logits"]
    logits[0::3] += 500
    logits[1::3] -= 500
    # One row that is all but certain.
    logits[2, b.columns["token/action"][2]] += 500
    wide = logits.astype(np.float64)
    top = wide.max(-1)
    lp = wide[np.arange(len(wide)), b.columns["token/action"]] - top - np.log(np.exp(wide - top[:, None]).sum(-1))
    b.put("token/old_logp", lp + np.random.default_rng(seed).normal(0, 0.1, len(lp)))
    return b


@program("far_logits", """
token_loss = base.token_loss - 0.01 * entropy
""", far_logits(168))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    h = run.t.entropy()
    answer.loss = answer.loss - 0.01 * seq_mean(run.t, {i: h[i] for i in run.t.tokens()})
    return answer


# ---- ordered operators ---------------------------------------------------------------------------


@program("indices", """
extend nothing
keep token where mask
place = real(index(token in rollout)) / 10 + real(index(turn in rollout)) + 0.1 * index(rollout in group)
edge  = is_first(token in rollout) or is_last(token in turn)
loss  = mean(place * logp) + sum(logp where edge) / 10 + mean(logp where is_last(turn in rollout))
        - mean(logp where is_first(rollout in group))
minimize loss
""", small(180, empty_turns=True))
def _(table, p):
    t = table.masked()
    lp, turn = t.col("token/logp"), t.element_of()
    place, edge = {}, set()
    for rs in t.live_groups:
        for k, r in enumerate(rs):
            order = t.elements(r)
            for n, i in enumerate(t.tokens(r)):
                place[i] = n / 10 + order.index(turn[i]) + 0.1 * k
            edge.update(t.tokens(r)[:1])
            for s in order:
                edge.update(t.tokens_in(s)[-1:])
    tokens = t.tokens()
    final = [lp[i] for i in tokens if turn[i] == t.elements(t.rollout_of[i])[-1]]
    leading = [lp[i] for rs in t.live_groups for i in t.tokens(rs[0])]
    loss = mean(place[i] * lp[i] for i in tokens) + total(lp[i] for i in edge) / 10 + mean(final) - mean(leading)
    return Answer(t, loss, dict(place=("token", place)))


def neighbour(order, at, by, default):
    """The value `by` places further on among kept elements."""
    k = order.index(at) + by
    return order[k] if 0 <= k < len(order) else default


@program("neighbours", """
extend nothing
keep token where mask
after  = next(logp, 0 in rollout)
before = prev(logp, -1, by = 2 in rollout)
old    = next(old_logp, 0.5 in turn)
loss   = mean((after - logp) ^ 2) + mean(before * old_logp) + mean(old * logp)
minimize loss
""", small(181))
def _(table, p):
    t = table.masked()
    lp, oldp = t.col("token/logp"), t.col("token/old_logp")
    after, before, old = {}, {}, {}
    for r in t.rollouts:
        order = t.tokens(r)
        for i in order:
            j, k = neighbour(order, i, 1, None), neighbour(order, i, -2, None)
            after[i] = ZERO if j is None else lp[j]
            before[i] = const(-1.0) if k is None else lp[k]
        for s in t.elements(r):
            mine = t.tokens_in(s)
            for i in mine:
                j = neighbour(mine, i, 1, None)
                old[i] = const(0.5) if j is None else oldp[j]
    loss = mean((after[i] - lp[i]) ** 2 + before[i] * oldp[i] + old[i] * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(after=("token", after), before=("token", before), old=("token", old)),
                  coupling="rollout")


@program("running_sums", """
extend nothing
keep token where mask
total   = cumsum(logp in rollout)
to_go   = rcumsum(token_reward in rollout)
inner   = rcumsum(logp ^ 2 in turn)
rewards = cumsum(token_reward > 0 in rollout)
loss    = mean(total * to_go) + mean(inner) + 0.1 * mean(rewards * logp)
minimize loss
""", small(182))
def _(table, p):
    t = table.masked()
    lp, paid = t.col("token/logp"), t.col("token/token_reward")
    run_sum, to_go, inner, rewards = {}, {}, {}, {}
    for r in t.rollouts:
        order = t.tokens(r)
        for k, i in enumerate(order):
            run_sum[i] = total(lp[j] for j in order[: k + 1])
            to_go[i] = total(paid[j] for j in order[k:])
            rewards[i] = sum(int(paid[j] > 0) for j in order[: k + 1])
        for s in t.elements(r):
            mine = t.tokens_in(s)
            for k, i in enumerate(mine):
                inner[i] = total(lp[j] ** 2 for j in mine[k:])
    loss = mean(run_sum[i] * to_go[i] + inner[i] + 0.1 * rewards[i] * lp[i] for i in t.tokens())
    return Answer(t, loss, dict(total=("token", run_sum), to_go=("token", to_go), inner=("token", inner),
                                rewards=("token", rewards)), coupling="rollout")


@program("turn_returns", """
# Turns as the elements of an ordered operator and of a group's statistics.
ret       = rcumsum(step_reward in rollout)
advantage = norm(ret per group)
loss      = token_mean(token_loss)
""", small(183, empty_turns=True))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    paid, ret, turn_adv = t.col("turn/step_reward"), {}, {}
    for rs in t.live_groups:
        mine = []
        for r in rs:
            order = t.elements(r)
            for k, s in enumerate(order):
                ret[s] = total(paid[j] for j in order[k:])
            mine += order
        spread = deviation([ret[s] for s in mine])
        for s, above in zip(mine, minus_mean([ret[s] for s in mine])):
            turn_adv[s] = above / (spread + 1e-6)
    turn = t.element_of()
    adv = {i: turn_adv[turn[i]] for i in t.tokens()}
    answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), token_mean, level="token")
    answer.values["advantage"] = ("turn", turn_adv)
    answer.values["ret"] = ("turn", ret)
    return answer


@program("ppo_critic", """
extend nothing
## Weight of the critic's loss (TRL: 0.1; here 0.5).
param vf_coef    = 0.5
param value_clip = 0.2
keep token where mask
# GAE with gamma = lambda = 1, over kept tokens only.
delta     = token_reward + next(old_value, 0 in rollout) - old_value
gae       = rcumsum(delta in rollout)
ret       = gae + old_value
advantage = batch_norm(gae)
ratio     = exp(logp - old_logp)
bounded   = old_value + clip(value - old_value, -value_clip, value_clip)
critic    = 0.5 * mean(max((value - ret) ^ 2, (bounded - ret) ^ 2))
minimize vf_coef * critic - token_mean(clipped(ratio, advantage, 0.2, 0.2))
metric critic_loss = critic
""", vocab(184), settings={"vf_coef": 0.1})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    paid, old_v, v = t.col("token/token_reward"), t.col("token/old_value"), t.col("token/value")
    gae = {}
    for r in t.rollouts:
        carried = ZERO
        order = t.tokens(r)
        for k in reversed(range(len(order))):
            i = order[k]
            following = old_v[order[k + 1]] if k + 1 < len(order) else ZERO
            carried = paid[i] + following - old_v[i] + carried
            gae[i] = carried
    tokens = t.tokens()
    m = mean(gae[i] for i in tokens)
    spread = torch.sqrt(variance(gae[i] for i in tokens) + 1e-8)
    adv = {i: (gae[i] - m) / spread for i in tokens}
    critic = []
    for i in tokens:
        ret = gae[i] + old_v[i]
        bounded = old_v[i] + torch.clamp(v[i] - old_v[i], -0.2, 0.2)
        critic.append(0.5 * torch.maximum((v[i] - ret) ** 2, (bounded - ret) ** 2))
    ratio = run.token_ratios()
    policy = mean(clip_objective(ratio[i], adv[i], 0.2, 0.2) for i in tokens)
    return Answer(t, 0.1 * mean(critic) - policy, dict(advantage=("token", adv), gae=("token", gae)),
                  {"critic_loss": mean(critic)})


# ---- gradient rules and coupling -----------------------------------------------------------------


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


def with_nan(seed):
    b = small(seed)
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


def smooth(seed):
    b = small(seed, groups=(3, 2), mask=False)
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
            for name, v in zip("abcdefghk", (a, b, c, d, e, f, g, h, k)):
                out[name][i] = v
            terms.append((a + 2 * b + 3 * c + 4 * d + 5 * e + f + g + h + k) * lp[i])
    return Answer(t, mean(terms), {n: ("token", v) for n, v in out.items()})


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


def scheduled(seed):
    b = small(seed)
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


# ---- the prelude ---------------------------------------------------------------------------------


@program("prelude_advantages", """
extend dapo
advantage = group_norm_pop(reward) + 0.1 * batch_norm(reward) + leave_one_out(reward) + group_norm_verl(reward)
            + 0.2 * norm(reward, eps = 0.1) + 0.3 * norm(step_reward per rollout)
""", small(220, groups=(3, 1, 4, 2), equal_group=3))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward, paid = t.col("rollout/reward"), t.col("turn/step_reward")
    every = [reward[r] for r in t.rollouts]
    m, s = mean(every), torch.sqrt(variance(every) + 1e-8)
    adv = {}
    for rs in t.live_groups:
        rewards = [reward[r] for r in rs]
        above = minus_mean(rewards)
        for k, r in enumerate(rs):
            others = [reward[j] for j in rs if j != r]
            loo = reward[r] - mean(others)
            verl = above[k] / (deviation(rewards) + 1e-6) if len(rs) > 1 else reward[r] / (1 + 1e-6)
            a = (above[k] / (deviation(rewards, 0) + 1e-6) + 0.1 * (reward[r] - m) / s + loo + verl
                 + 0.2 * above[k] / (deviation(rewards) + 0.1))
            turns = t.elements(r)
            steps = [paid[e] for e in turns]
            for e, up in zip(turns, minus_mean(steps)):
                adv[e] = a + 0.3 * up / (deviation(steps) + 1e-6)
    turn = t.element_of()
    per_token = {i: adv[turn[i]] for i in t.tokens()}
    q = dict(clip_low=0.2, clip_high=0.28, beta=0.0)
    answer = ppo_tokens(run, q, per_token, run.token_ratios(), token_mean, level="token")
    answer.values["advantage"] = ("turn", adv)
    return answer


@program("prelude_divergences", """
extend nothing
keep token where mask
k1   = kl_k1(logp, ref_logp)
k2   = kl_k2(logp, ref = ref_logp)
k3   = kl_k3(logp, ref_logp)
# The value of k3 with the gradient of k2.
loss = seq_sum(with_grad(k3, k2)) + 0.1 * token_mean(k1 * k2) + 0.01 * seq_mean(k3)
minimize loss
""", small(221))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    one = {i: run.logp[i] - run.ref[i] for i in t.tokens()}
    two = {i: one[i] ** 2 / 2 for i in t.tokens()}
    three = {i: k3(run.logp[i], run.ref[i]) for i in t.tokens()}
    mixed = {i: three[i].detach() + two[i] - two[i].detach() for i in t.tokens()}
    loss = (mean(total(mixed[i] for i in t.tokens(r)) for r in t.rollouts)
            + 0.1 * mean(one[i] * two[i] for i in t.tokens()) + 0.01 * seq_mean(t, three))
    return Answer(t, loss, dict(k1=("token", one), k2=("token", two), k3=("token", three)))


@program("dual_clip", """
extend dapo
surrogate = dual_clipped(ratio, advantage, clip_low, clip_high, c = 2)
""", small(222, wild=0.4))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio = grpo_advantage(t), run.token_ratios()
    losses, cut = {}, []
    for i in t.tokens():
        a = adv[t.rollout_of[i]]
        objective = clip_objective(ratio[i], a, 0.2, 0.28)
        losses[i] = -(torch.maximum(objective, 2 * a) if a < 0 else objective)
        cut.append(is_clipped(ratio[i], a, 0.2, 0.28))
    return Answer(t, token_mean(t, losses), dict(advantage=("rollout", adv), ratio=("token", ratio)),
                  {"clip_fraction": mean(cut), "approx_kl": run.approx_kl()})


def calib_case(name, text, batch, base, lam=1.0, level="turn", extra=False):
    @program(name, text, batch, extra=extra)
    def _(table, p):
        run = Run(table, GRPO)
        t = run.t
        adv = calibrated(t, base(t), t.col("turn/step_correct"), lam)
        answer = ppo_tokens(run, GRPO, adv, run.token_ratios(), seq_mean, level="token")
        answer.values["advantage"] = (level, turn_values(t, adv) if level == "turn" else adv)
        return answer


def base_group_norm(t):
    a = grpo_advantage(t)
    return lambda r, i: a[r]


def base_token(t):
    reward = t.col("rollout/reward")
    tokens = t.tokens()
    values = [reward[t.rollout_of[i]] for i in tokens]
    s = torch.sqrt(variance(values) + 1e-8)
    a = dict(zip(tokens, (x / s for x in minus_mean(values))))
    return lambda r, i: a[i]


ONE_LINE = "advantage = calib(group_norm(reward), step_correct)\n"
calib_case("calib_one_line", ONE_LINE, small(230, groups=(4, 3, 1, 3)), base_group_norm)
calib_case("calib_one_line_logits", ONE_LINE, vocab(231, groups=(4, 3), empty_turns=True), base_group_norm)
calib_case("calib_lam", "param lam = 0.5\nadvantage = calib(group_norm(reward), step_correct, lam = lam)\n",
           small(232, groups=(4, 3, 4)), base_group_norm, 0.5)
calib_case("calib_token_level", "advantage = calib(batch_norm(reward @ token), step_correct, 1.5)\n",
           small(233, groups=(4, 3, 4)), base_token, 1.5, "token")


def one_sided(seed):
    """Groups whose answers have advantages of one sign only, or no kept token at all."""
    b = small(seed, groups=(3, 3, 3), mask=True, one_token=False)
    starts = np.concatenate([[0], np.cumsum(b.rollout_size)]).astype(int)
    reward = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5, 0.0])
    b.put("rollout/reward", reward)
    mask = b.columns["token/mask"]
    mask[:] = 1
    t = Table(b)
    for r in (0, 5, 6, 7, 8):
        for i in t.segments["turn"][1][t.elements(r)[-1]]:
            mask[i] = 0
    return b


calib_case("calib_one_sided", ONE_LINE, one_sided(234), base_group_norm)


# ---- odd batches ---------------------------------------------------------------------------------


def plain_grpo(table, p):
    run = Run(table, GRPO)
    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)


def stdlib_case(name, stdlib, batch, reference, settings=None):
    PROGRAMS.append(Case(name, None, batch, reference, settings, program=stdlib))


def least(seed):
    """Only what grpo needs: no mask, no turns, no reference."""
    b = Batch([2, 2], [3, 1, 2, 2])
    rng = np.random.default_rng(seed)
    b.put("token/logp", -rng.gamma(1, 1, 8)).put("token/old_logp", -rng.gamma(1, 1, 8))
    return b.put("rollout/reward", [1, 0, 0, 0.5])


stdlib_case("batch_least", "grpo", least(240), plain_grpo)
# No reward, no old_logp: the loss is what decides which columns are needed.
stdlib_case("batch_least_sft", "sft", least(246).without("token/old_logp", "rollout/reward"), None)


def both(seed):
    """Logits beside log-probs and entropies, which are then ignored."""
    b = vocab(seed)
    n = sum(b.rollout_size)
    return b.put("token/logp", np.full(n, -9.0)).put("token/entropy", np.full(n, 7.0))


@program("logits_and_logp", """
token_loss = base.token_loss - 0.05 * entropy
""", both(247))
def _(table, p):
    run = Run(table, GRPO)
    answer = ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)
    h = run.t.entropy()
    answer.loss = answer.loss - 0.05 * seq_mean(run.t, {i: h[i] for i in run.t.tokens()})
    return answer


def own_position(seed):
    """Columns for what is computed when absent."""
    b = small(seed)
    n = sum(b.rollout_size)
    b.put("token/position", np.arange(n) % 5 + 2, np.int64)
    return b.put("rollout/length", np.arange(len(b.rollout_size)) + 3, np.int64)


@program("given_position", """
token_loss = base.token_loss + 0.1 * real(position) / real(length) * logp
""", own_position(248))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    answer = ppo_tokens(run, GRPO, grpo_advantage(t), run.token_ratios(), seq_mean)
    more = {i: 0.1 * (i % 5 + 2) / (t.rollout_of[i] + 3) * run.logp[i] for i in t.tokens()}
    answer.loss = answer.loss + seq_mean(t, more)
    return answer


def all_masked(seed):
    b = small(seed)
    b.columns["token/mask"][:] = 0
    return b


stdlib_case("batch_all_masked", "grpo", all_masked(241), plain_grpo)


def all_equal(seed):
    """Rewards of 0.1 and 1/3 that no float sum divides evenly: the gradient is exactly 0."""
    b = small(seed, groups=(7, 3, 6, 5))
    b.put("rollout/reward", [0.1] * 7 + [1 / 3] * 3 + [0.7] * 6 + [0.3] * 5, np.float64)
    return b


stdlib_case("batch_all_equal", "grpo", all_equal(242), plain_grpo)


def one_token_each(seed):
    b = Batch([1], [1])
    b.put("token/logp", [-0.5]).put("token/old_logp", [-0.7])
    return b.put("rollout/reward", [1.0])


stdlib_case("batch_one_token", "reinforce_pp", one_token_each(243), None)


def zero_tokens(seed):
    """Rollouts of no tokens, with no turn or an empty one."""
    b = Batch([3, 2], [3, 0, 2, 0, 4], [2, 1, 2, 0, 3, 1], [2, 0, 1, 1, 2])
    rng = np.random.default_rng(seed)
    b.put("token/logp", -rng.gamma(1, 1, 9)).put("token/old_logp", -rng.gamma(1, 1, 9))
    b.put("turn/step_correct", rng.uniform(0, 1, 6))
    return b.put("rollout/reward", [1, 0, 0.25, 0.5, 0])


stdlib_case("batch_zero_tokens", "grpo", zero_tokens(244), plain_grpo)
stdlib_case("batch_zero_tokens_calibadv", "calibadv", zero_tokens(245), None)


# ---- worked examples of the recipes --------------------------------------------------------------

PRINTED = [1.3754, 1.3754, 1.8339, -0.2469, -0.7406, -0.7406, 0.1058, 0.1411, -0.7406, -0.7406]


def worked(answers):
    """The recipe's table of advantages per turn; `answers`: those of the two positive last turns."""

    def reference(table, p):
        answer = published("calibadv", table, p)
        found = answer.expected()["value/advantage"]
        printed = list(PRINTED)
        printed[2], printed[7] = answers
        assert np.allclose(found, printed, atol=6e-5), found
        return answer

    return reference


stdlib_case("calibadv_worked", "calibadv", calibadv_example(), worked((1.8339, 0.1411)))
stdlib_case("calibadv_worked_lam", "calibadv", calibadv_example(), worked((2.7508, 0.2116)), {"lam": 1.5})


def sapo_table():
    """Ratios 0.5, 1, 1.5 and 2 under A = +1 and -1, one token per rollout (recipes A, 9)."""
    ratios = np.array([0.5, 1, 1.5, 2, 0.5, 1, 1.5, 2])
    b = Batch([8], [1] * 8)
    old = np.full(8, -1.0)
    b.put("token/old_logp", old, np.float64).put("token/logp", old + np.log(ratios), np.float64)
    return b.put("rollout/credit", [1.0] * 4 + [-1.0] * 4, np.float64)


@program("sapo_worked", """
extend sapo
input credit : real @ rollout
advantage = credit
# Sums, so that the gradients are those of the recipe's table.
loss = sum(token_loss)
""", sapo_table())
def _(table, p):
    t = table
    lp, old, credit = t.col("token/logp"), t.col("token/old_logp"), t.col("rollout/credit")
    losses, kl, faded, ratio = [], [], [], {}
    for i in t.tokens():
        ratio[i] = torch.exp(lp[i] - old[i])
        tau = 1.0 if credit[i] > 0 else 1.05
        s = torch.sigmoid(tau * (ratio[i] - 1))
        losses.append(-credit[i] * 4 / tau * s)
        faded.append(1 - 4 * s * (1 - s))
        kl.append((old[i] - lp[i]).detach())
    # -A 4 s (1 - s) rho, as the recipe prints it.
    printed = [-0.470, -1.0, -1.41, -1.573, 0.467, 1.0, 1.401, 1.536]
    grad = torch.autograd.grad(total(losses), lp, retain_graph=True)[0]
    assert np.allclose(grad.numpy(), printed, atol=6e-4), grad
    return Answer(t, total(losses), dict(ratio=("token", ratio)),
                  {"approx_kl": mean(kl), "clip_fraction": mean(f.detach() for f in faded)})
