"""Expressions over the vocabulary."""

from .common import *

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


@rebuildable
def far_logits(seed, **kw):
    b = vocab(seed, **{**kw, "wild": 0})
    logits = b.columns["vocab/logits"]
    logits[0::3] += 500
    logits[1::3] -= 500
    # One row that is all but certain.
    sure = 2 % len(logits)
    logits[sure, b.columns["token/action"][sure]] += 500
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


@program("vocab_distances", """
extend nothing
keep token where mask
p = softmax(logits)
q = softmax(ref_logits)
tv        = 0.5 * sum(abs(p - q) per token)
overlap   = sum(min(p, q) per token)
middle    = log((p + q) / 2)
js        = 0.5 * sum(p * (log(p) - middle) + q * (log(q) - middle) per token)
hellinger = 1 - sum(sqrt(p * q) per token)
loss = mean(tv) - 0.3 * mean(overlap) + mean(js ^ 2) + mean(hellinger)
minimize loss
""", vocab(170))
def _(table, p):
    t = table.masked()
    out = {n: {} for n in ("tv", "overlap", "js", "hellinger")}
    terms = []
    for i in t.tokens():
        own = torch.softmax(t.col("vocab/logits")[i], 0)
        ref = torch.softmax(t.col("vocab/ref_logits")[i], 0)
        m = (own + ref) / 2
        out["tv"][i] = 0.5 * (own - ref).abs().sum()
        out["overlap"][i] = torch.minimum(own, ref).sum()
        out["js"][i] = 0.5 * (own * (own / m).log() + ref * (ref / m).log()).sum()
        out["hellinger"][i] = 1 - (own * ref).sqrt().sum()
        terms.append(out["tv"][i] - 0.3 * out["overlap"][i] + out["js"][i] ** 2 + out["hellinger"][i])
    return Answer(t, mean(terms), {n: ("token", v) for n, v in out.items()})


@program("vocab_three_sweeps", """
extend nothing
# The spread of the log-probabilities under the policy itself, and a distribution made from another.
surprise = -log_softmax(logits)
p        = softmax(logits)
spread   = sum(p * (surprise - entropy) ^ 2 per token)
tilted   = log_softmax(0.5 * log_softmax(logits) + ref_logits / 2)
loss     = mean(spread) - mean(at(tilted, action)) + 0.1 * mean(logsumexp(-logits per token)) + mean(at(logits, 0)) / 10
minimize loss
""", vocab(171))
def _(table, p):
    t, terms, out = table, [], {}
    action = t.ints("token/action")
    for i in t.tokens():
        row = t.col("vocab/logits")[i]
        lp = row - torch.logsumexp(row, 0)
        h = -(lp.exp() * lp).sum()
        out[i] = (lp.exp() * (-lp - h) ** 2).sum()
        mix = 0.5 * lp + t.col("vocab/ref_logits")[i] / 2
        tilted = mix - torch.logsumexp(mix, 0)
        terms.append(out[i] - tilted[action[i]] + 0.1 * torch.logsumexp(-row, 0) + row[0] / 10)
    return Answer(t, mean(terms), dict(spread=("token", out)))


@program("vocab_above_token", """
extend nothing
keep token where mask
# Statistics of the row that couple tokens: by rollout, and through ordered operators.
calm  = exp(-mean(entropy per rollout))
drift = entropy - prev(entropy, 0 in rollout)
loss  = -mean(calm) + 0.1 * mean(drift ^ 2) + 0.05 * mean(cumsum(sum(softmax(logits) ^ 2 per token) in rollout) * token_reward)
minimize loss
""", vocab(172))
def _(table, p):
    t = table.masked()
    h, paid = t.entropy(), t.col("token/token_reward")
    probs = torch.softmax(t.col("vocab/logits"), -1)
    calm, terms = {}, []
    for r in t.rollouts:
        order = t.tokens(r)
        calm[r] = torch.exp(-mean(h[i] for i in order))
        run_sum = ZERO
        for k, i in enumerate(order):
            run_sum = run_sum + (probs[i] ** 2).sum()
            before = h[order[k - 1]] if k else ZERO
            terms.append(0.1 * (h[i] - before) ** 2 + 0.05 * run_sum * paid[i])
    return Answer(t, -mean(calm.values()) + mean(terms), dict(calm=("rollout", calm)), coupling="rollout")


@program("vocab_whole_batch", """
extend nothing
keep token where mask
loss = var(entropy) - 0.1 * max(at(log_softmax(logits), action)) + mean(logp) * mean(entropy)
minimize loss
""", vocab(173))
def _(table, p):
    t = table.masked()
    h, lp = t.entropy(), t.logp()
    tokens = t.tokens()
    top = max((lp[i] for i in tokens), key=lambda v: v.item()) if tokens else ZERO
    loss = variance(h[i] for i in tokens) - 0.1 * top + mean(lp[i] for i in tokens) * mean(h[i] for i in tokens)
    return Answer(t, loss, coupling="batch")
