"""The prelude's functions."""

from .common import *

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


@rebuildable
def one_sided(seed, **kw):
    """Groups whose answers have advantages of one sign only, or no kept token at all."""
    b = small(seed, **{**kw, "groups": (3, 3, 3), "mask": True, "one_token": False})
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
