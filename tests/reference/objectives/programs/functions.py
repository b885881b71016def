"""`fn`: defaults, named arguments, scopes, blocks, pipes."""

from .common import *

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
