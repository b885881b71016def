"""Odd batches: the least, all masked, all equal, no tokens."""

from .common import *

def plain_grpo(table, p):
    run = Run(table, GRPO)
    return ppo_tokens(run, GRPO, grpo_advantage(run.t), run.token_ratios(), seq_mean)


def least(seed):
    """Only what grpo needs: no mask, no turns, no reference."""
    b = Batch([2, 2], [3, 1, 2, 2])
    rng = np.random.default_rng(seed)
    b.put("token/logp", -rng.gamma(1, 1, 8)).put("token/old_logp", -rng.gamma(1, 1, 8))
    return b.put("rollout/reward", [1, 0, 0, 0.5])


stdlib_case("batch_least", "grpo", least(240), plain_grpo)
# No reward, no old_logp: the loss is what decides which columns are needed.
stdlib_case("batch_least_sft", "sft", least(246).without("token/old_logp", "rollout/reward"), None)


@rebuildable
def both(seed, **kw):
    """Logits beside log-probs and entropies, which are then ignored."""
    b = vocab(seed, **kw)
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


@rebuildable
def own_position(seed, **kw):
    """Columns for what is computed when absent."""
    b = small(seed, **kw)
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


@rebuildable
def all_masked(seed, **kw):
    b = small(seed, **kw)
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
