"""`keep` and `drop`."""

from .common import *

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


@program("filter_turns", """
extend nothing
# Turns leave with their tokens; what is left is renumbered, and means over turns are over those left.
drop turn where step_correct < 0.1
keep token where mask
score = step_reward - mean(step_reward per rollout)
loss  = mean(score * logp) + 0.1 * mean(mean(logp per turn)) + 0.01 * mean(real(index(turn in rollout)) * logp)
        + mean(logp where is_last(turn in rollout)) + 0.1 * mean(logp * real(count(turn per rollout)))
minimize loss
metric turns = count(turn)
""", small(138, groups=(4, 3)))
def _(table, p):
    t = table.masked()
    lp, q, steps = t.col("token/logp"), t.col("turn/step_correct"), t.col("turn/step_reward")
    turn = t.element_of()
    t = t.keep_tokens(lambda i: q[turn[i]] >= 0.1)
    terms, by_turn, final = [], [], []
    for r in t.rollouts:
        left = [e for e in t.elements(r) if q[e] >= 0.1]
        m = mean(steps[e] for e in left)
        for k, e in enumerate(left):
            mine = t.tokens_in(e)
            by_turn.append(mean(lp[i] for i in mine))
            terms += [(steps[e] - m + 0.01 * k + 0.1 * len(left)) * lp[i] for i in mine]
        final += [lp[i] for e in left[-1:] for i in t.tokens_in(e)]
    loss = mean(terms) + 0.1 * mean(by_turn) + mean(final)
    return Answer(t, loss, {}, {"turns": len(by_turn)})


@program("filter_items", """
extend nothing
level item in rollout
input score : real @ item
# Items cut across turns: a turn keeps the tokens of the items that stay.
keep item where score > -0.3
loss = mean(mean(logp per turn)) + mean(score * mean(logp ^ 2 per item)) + mean(logp * next(score, 0 in rollout) @ token)
minimize loss
metric items  = count(item)
metric tokens = count(token)
""", with_items(139, mask=False))
def _(table, p):
    t = table
    lp, score, item = t.col("token/logp"), t.col("item/score"), t.element_of("item")
    t = t.keep_tokens(lambda i: score[item[i]] > -0.3)
    turns = [mean(lp[i] for i in t.tokens_in(e)) for r in t.rollouts for e in t.elements(r)]
    items_, terms = [], []
    for r in t.rollouts:
        left = [e for e in t.elements(r, "item") if score[e] > -0.3]
        for k, e in enumerate(left):
            mine = t.tokens_in(e, "item")
            items_.append(score[e] * mean(lp[i] ** 2 for i in mine))
            after = score[left[k + 1]] if k + 1 < len(left) else ZERO
            terms += [lp[i] * after for i in mine]
    return Answer(t, mean(turns) + mean(items_) + mean(terms), {}, dict(items=len(items_), tokens=len(terms)))
