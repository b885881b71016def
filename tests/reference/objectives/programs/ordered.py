"""Ordered operators, turns, GAE."""

from .common import *

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


@program("ordered_wide_scopes", """
extend nothing
keep token where mask
drop rollout where truncated
so_far = cumsum(reward in group)
former = prev(reward, -1 in group)
later  = next(mean(logp per rollout), 0 in group)
number = index(token in batch) + 10 * index(group in batch) + index(token in group)
first  = is_first(rollout in batch) or is_last(group in batch)
loss   = mean(mean(logp per rollout) * so_far) + mean(later * former) + 0.01 * mean(number * logp) + mean(logp where first)
minimize loss
""", small(185, groups=(3, 2, 3)))
def _(table, p):
    t = table.masked()
    cut = t.ints("rollout/truncated")
    t = t.keep_rollouts(lambda r: not cut[r])
    lp, reward = t.col("token/logp"), t.col("rollout/reward")
    m = {r: mean(lp[i] for i in t.tokens(r)) for r in t.rollouts}
    so_far, former, later, number = {}, {}, {}, {}
    for g, rs in enumerate(t.live_groups):
        order = [i for r in rs for i in t.tokens(r)]
        for k, r in enumerate(rs):
            so_far[r] = total(reward[x] for x in rs[: k + 1])
            former[r] = reward[rs[k - 1]] if k else const(-1.0)
            later[r] = m[rs[k + 1]] if k + 1 < len(rs) else ZERO
        for k, i in enumerate(order):
            number[i] = k + 10 * g
    for k, i in enumerate(t.tokens()):
        number[i] += k
    last_group = len(t.groups) - 1
    chosen = [lp[i] for n, r in enumerate(t.rollouts) for i in t.tokens(r) if n == 0 or t.group_of[r] == last_group]
    loss = (mean(m[r] * so_far[r] + later[r] * former[r] for r in t.rollouts)
            + 0.01 * mean(number[i] * lp[i] for i in t.tokens()) + mean(chosen))
    return Answer(t, loss, dict(so_far=("rollout", so_far), former=("rollout", former), later=("rollout", later),
                                number=("token", number)), coupling="group")


@program("ordered_defaults", """
extend nothing
keep token where mask
# A default of a coarser level, of the same level, and a live one.
boot = next(old_value, reward in rollout)
self = next(old_value, old_value in turn)
held = prev(old_logp, logp, by = 2 in rollout)
loss = mean((boot + self) * logp) + mean(held ^ 2)
minimize loss
""", small(186))
def _(table, p):
    t = table.masked()
    lp, old_v, old, reward = t.col("token/logp"), t.col("token/old_value"), t.col("token/old_logp"), t.col("rollout/reward")
    boot, own, held = {}, {}, {}
    for r in t.rollouts:
        order = t.tokens(r)
        for i in order:
            j, k = neighbour(order, i, 1, None), neighbour(order, i, -2, None)
            boot[i] = reward[r] if j is None else old_v[j]
            held[i] = lp[i] if k is None else old[k]
        for e in t.elements(r):
            mine = t.tokens_in(e)
            for i in mine:
                j = neighbour(mine, i, 1, None)
                own[i] = old_v[i] if j is None else old_v[j]
    loss = mean((boot[i] + own[i]) * lp[i] + held[i] ** 2 for i in t.tokens())
    return Answer(t, loss, dict(boot=("token", boot), self=("token", own), held=("token", held)))
