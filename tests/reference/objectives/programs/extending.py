"""`extend`, late binding, `base.name`, layout."""

from .common import *

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


@program("base_function", """
extend dapo
# base.f inside the function that replaces f.
fn clipped(ratio, a, low, high) = base.clipped(ratio, a, low, 2 * high) - 0.1 * (ratio - 1) ^ 2
fn token_mean(x) = base.token_mean(x) / 2
""", small(151))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    adv, ratio = grpo_advantage(t), run.token_ratios()
    losses, cut = {}, []
    for i in t.tokens():
        a = adv[t.rollout_of[i]]
        losses[i] = 0.1 * (ratio[i] - 1) ** 2 - clip_objective(ratio[i], a, 0.2, 0.56)
        cut.append(is_clipped(ratio[i], a, 0.2, 0.28))
    return Answer(t, token_mean(t, losses) / 2, {"ratio": ("token", ratio)},
                  {"clip_fraction": mean(cut) / 2, "approx_kl": run.approx_kl() / 2})


@program("base_input", """
# base.reward is the column; base.entropy and base.logp are the prelude's.
reward  = base.reward - 0.2 * real(truncated)
logp    = max(base.logp, -4)
entropy = base.entropy / 2
token_loss = base.token_loss - 0.1 * entropy
""", small(152))
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    cut, h = t.ints("rollout/truncated"), t.entropy()
    run.logp = torch.clamp(run.logp, min=-4)
    reward = {r: t.col("rollout/reward")[r] - 0.2 * cut[r] for r in t.rollouts}
    answer = ppo_tokens(run, GRPO, z_scores(t, reward, 1e-4), run.token_ratios(), seq_mean)
    answer.loss = answer.loss - 0.05 * seq_mean(t, {i: h[i] for i in t.tokens()})
    return answer


@program("base_three_deep", """
extend "middle.rl"
token_loss = base.token_loss + 0.1 * level_three
level_three = (logp - old_logp) ^ 2
""", small(153), files={"middle.rl": """extend "lower.rl"
# Reads what the file below redefines last.
token_loss = base.token_loss * weight
weight = 2 + 0 * advantage
""", "lower.rl": """extend gspo_token
param clip_low = 0.1
param clip_high = 0.3
advantage = center(reward)
weight = 1
token_loss = base.token_loss + 0.01 * weight
"""})
def _(table, p):
    run = Run(table, GRPO)
    t = run.t
    reward, adv, ratio = t.col("rollout/reward"), {}, {}
    for rs in t.live_groups:
        adv.update(zip(rs, minus_mean([reward[r] for r in rs])))
    for r in t.rollouts:
        m = mean((run.logp[i] - run.old[i]).detach() for i in t.tokens(r))
        ratio.update({i: torch.exp(m + run.logp[i] - run.logp[i].detach()) for i in t.tokens(r)})

    def reduce(t, losses):
        return seq_mean(t, {i: 2 * (losses[i] + 0.02) + 0.1 * (run.logp[i] - run.old[i]) ** 2 for i in losses})

    return ppo_tokens(run, dict(clip_low=0.1, clip_high=0.3, beta=0), adv, ratio, reduce, "rollout")
