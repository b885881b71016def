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
