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
