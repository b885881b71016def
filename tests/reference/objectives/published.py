"""The published objectives in float64, one function each, as the papers' formulas in explicit loops.

The source of every form is named in its docstring. `p` holds the hyperparameters of the run.
"""

import torch

from table import Answer, ZERO, deviation, mean, minus_mean, total, variance

DEFAULTS = {
    "grpo": dict(clip_low=0.2, clip_high=0.2, beta=0.0),
    "bnpo": dict(clip_low=0.2, clip_high=0.2, beta=0.0),
    "dapo": dict(clip_low=0.2, clip_high=0.28, beta=0.0),
    "dr_grpo": dict(clip_low=0.2, clip_high=0.2, beta=0.0, max_tokens=512),
    "gspo": dict(clip_low=3e-4, clip_high=4e-4, beta=0.0),
    "gspo_token": dict(clip_low=3e-4, clip_high=4e-4, beta=0.0),
    "cispo": dict(beta=0.0, ratio_max=5.0),
    "sapo": dict(beta=0.0, tau_pos=1.0, tau_neg=1.05),
    "gmpo": dict(clip_low=0.4, clip_high=0.4, beta=0.0),
    "rloo": dict(clip_low=0.2, clip_high=0.2, beta=0.05),
    "reinforce_pp": dict(clip_low=0.2, clip_high=0.2, beta=0.0),
    "calibadv": dict(clip_low=0.2, clip_high=0.2, beta=0.0, lam=1.0),
    "sft": dict(),
}


# ---- pieces that several papers share ----


def z_scores(table, reward, eps, singleton_raw=False):
    """(R - mean) / (std + eps) in every group, std with Bessel's correction."""
    out = {}
    for rollouts in table.live_groups:
        rewards = [reward[i] for i in rollouts]
        if len(rewards) == 1 and singleton_raw:
            out[rollouts[0]] = rewards[0] / (1 + eps)
            continue
        spread = deviation(rewards)
        for i, above in zip(rollouts, minus_mean(rewards)):
            out[i] = above / (spread + eps)
    return out


def clip_objective(ratio, a, low, high):
    """PPO's clipped objective of one token or rollout, to be maximised."""
    return torch.minimum(ratio * a, torch.clamp(ratio, 1 - low, 1 + high) * a)


def is_clipped(ratio, a, low, high):
    ratio, a = ratio.item(), float(a)
    return float(min(max(ratio, 1 - low), 1 + high) * a < ratio * a)


def k3(logp, ref):
    return torch.exp(ref - logp) - (ref - logp) - 1


class Run:
    """The columns every policy-gradient objective reads, after the mask."""

    def __init__(self, table, p):
        self.t = table.masked()
        self.logp = self.t.logp(p.get("temperature", 1.0))
        self.old = self.t.col("token/old_logp")
        self.ref = self.t.col("token/ref_logp") if self.t.has("token/ref_logp") else None

    def approx_kl(self):
        return mean((self.old[i] - self.logp[i]).detach() for i in self.t.tokens())

    def token_ratios(self):
        return {i: torch.exp(self.logp[i] - self.old[i]) for i in self.t.tokens()}


def ppo_tokens(run, p, adv, ratio, reduce, coupling="token", level="rollout"):
    """Objectives of the form reduce(beta k3 - clip_objective); adv: rollout or token -> advantage."""
    t = run.t
    losses, clipped = {}, []
    for i in t.tokens():
        a = adv[t.rollout_of[i]] if level == "rollout" else adv[i]
        losses[i] = -clip_objective(ratio[i], a, p["clip_low"], p["clip_high"])
        if p["beta"] != 0:
            losses[i] = losses[i] + p["beta"] * k3(run.logp[i], run.ref[i])
        clipped.append(is_clipped(ratio[i], a, p["clip_low"], p["clip_high"]))
    return Answer(
        t,
        reduce(t, losses),
        {"advantage": (level, adv), "ratio": ("token", ratio)},
        {"clip_fraction": mean(clipped), "approx_kl": run.approx_kl()},
        coupling,
    )


def token_mean(t, losses):
    return total(losses.values()) / max(len(losses), 1)


def seq_mean(t, losses):
    """A rollout without tokens counts with 0."""
    return total(mean(losses[i] for i in t.tokens(r)) for r in t.rollouts) / max(len(t.rollouts), 1)


# ---- the objectives ----


def grpo(table, p):
    """Recipes 2.2: std1, eps 1e-4, mean over tokens, then over rollouts."""
    run = Run(table, p)
    adv = z_scores(run.t, run.t.col("rollout/reward"), 1e-4)
    return ppo_tokens(run, p, adv, run.token_ratios(), seq_mean)


def bnpo(table, p):
    """Recipes 2.2: the same, all tokens alike. dapo differs in its parameters only."""
    run = Run(table, p)
    adv = z_scores(run.t, run.t.col("rollout/reward"), 1e-4)
    return ppo_tokens(run, p, adv, run.token_ratios(), token_mean)


def dr_grpo(table, p):
    """Recipes 2.2: centred rewards; the sum over tokens over (rollouts * max tokens)."""
    run = Run(table, p)
    adv, reward = {}, run.t.col("rollout/reward")
    for rollouts in run.t.live_groups:
        adv.update(zip(rollouts, minus_mean([reward[i] for i in rollouts])))

    def reduce(t, losses):
        return total(losses.values()) / (len(t.rollouts) * p["max_tokens"])

    return ppo_tokens(run, p, adv, run.token_ratios(), reduce)


def per_rollout(run, p, adv, ratio, clip=True, metric=None):
    """Objectives with one ratio per rollout: mean over rollouts of beta mean k3 - objective."""
    t = run.t
    losses, clipped = [], []
    for r in t.rollouts:
        if clip:
            objective = clip_objective(ratio[r], adv[r], p["clip_low"], p["clip_high"])
            clipped.append(is_clipped(ratio[r], adv[r], p["clip_low"], p["clip_high"]))
        else:
            objective = ratio[r] * adv[r]
        loss = -objective
        if p["beta"] != 0 and p.get("kl_in_loss", True):
            loss = loss + p["beta"] * mean(k3(run.logp[i], run.ref[i]) for i in t.tokens(r))
        losses.append(loss)
    return Answer(
        t,
        mean(losses),
        {"advantage": ("rollout", adv), "ratio": ("rollout", ratio)},
        {"clip_fraction": mean(clipped) if clip else metric, "approx_kl": run.approx_kl()},
        "rollout",
    )


def gspo(table, p):
    """Recipes 2.9: R_i = exp(mean of the log-ratios), gradient through the mean."""
    run = Run(table, p)
    adv = z_scores(run.t, run.t.col("rollout/reward"), 1e-4)
    ratio = {r: torch.exp(mean(run.logp[i] - run.old[i] for i in run.t.tokens(r))) for r in run.t.rollouts}
    return per_rollout(run, p, adv, ratio)


def gspo_token(table, p):
    """Recipes 2.9: log ratio of a token = lp - sg lp + sg mean d; mean over tokens, then rollouts."""
    run = Run(table, p)
    t = run.t
    adv = z_scores(t, t.col("rollout/reward"), 1e-4)
    ratio = {}
    for r in t.rollouts:
        m = mean((run.logp[i] - run.old[i]).detach() for i in t.tokens(r))
        for i in t.tokens(r):
            ratio[i] = torch.exp(m + run.logp[i] - run.logp[i].detach())
    return ppo_tokens(run, p, adv, ratio, seq_mean, "rollout")


def cispo(table, p):
    """Recipes 2.10, TRL: -sg[min(rho, ratio_max)] A lp, all tokens alike."""
    run = Run(table, p)
    t = run.t
    adv = z_scores(t, t.col("rollout/reward"), 1e-4)
    ratio, losses, cut = run.token_ratios(), {}, []
    for i in t.tokens():
        weight = min(ratio[i].item(), p["ratio_max"])
        losses[i] = -weight * adv[t.rollout_of[i]] * run.logp[i]
        if p["beta"] != 0:
            losses[i] = losses[i] + p["beta"] * k3(run.logp[i], run.ref[i])
        cut.append(float(ratio[i].item() > p["ratio_max"]))
    return Answer(
        t,
        token_mean(t, losses),
        {"advantage": ("rollout", adv), "ratio": ("token", ratio)},
        {"clip_fraction": mean(cut), "approx_kl": run.approx_kl()},
    )


def sapo(table, p):
    """Recipes 2.11: -A 4/tau sigmoid(tau (rho - 1)), tau by the sign of A."""
    run = Run(table, p)
    t = run.t
    adv = z_scores(t, t.col("rollout/reward"), 1e-4)
    ratio, losses, faded = run.token_ratios(), {}, []
    for i in t.tokens():
        a = adv[t.rollout_of[i]]
        tau = p["tau_pos"] if a > 0 else p["tau_neg"]
        s = torch.sigmoid(tau * (ratio[i] - 1))
        losses[i] = -a * s * 4 / tau
        if p["beta"] != 0:
            losses[i] = losses[i] + p["beta"] * k3(run.logp[i], run.ref[i])
        faded.append(1 - 4 * s.item() * (1 - s.item()))
    return Answer(
        t,
        seq_mean(t, losses),
        {"advantage": ("rollout", adv), "ratio": ("token", ratio)},
        {"clip_fraction": mean(faded), "approx_kl": run.approx_kl()},
    )


def gmpo(table, p):
    """Recipes 2.12: geometric mean of the clipped ratios, clip in log space, on the side of A."""
    run = Run(table, p)
    t = run.t
    adv = z_scores(t, t.col("rollout/reward"), 1e-4)
    ratio, cut = {}, []
    for r in t.rollouts:
        s = float(adv[r] > 0) - float(adv[r] < 0)
        terms = []
        for i in t.tokens(r):
            d = run.logp[i] - run.old[i]
            bounded = torch.clamp(d, -p["clip_low"], p["clip_high"])
            terms.append(s * torch.minimum(s * d, s * bounded))
            cut.append(float(s * bounded.item() < s * d.item()))
        ratio[r] = torch.exp(mean(terms))
    return per_rollout(run, p, adv, ratio, clip=False, metric=mean(cut))


def rloo(table, p):
    """Recipes 2.6, TRL: KL in the reward, leave-one-out baseline, one ratio (a product) per rollout."""
    run = Run(table, p)
    t = run.t
    reward = t.col("rollout/reward")
    net = {r: reward[r] for r in t.rollouts}
    if p["beta"] != 0:
        for r in t.rollouts:
            net[r] = reward[r] - p["beta"] * total(run.old[i] - run.ref[i] for i in t.tokens(r))
    adv = {}
    for rollouts in t.live_groups:
        for i in rollouts:
            others = [net[j] for j in rollouts if j != i]
            if others and all(o.item() == net[i].item() for o in others):
                adv[i] = ZERO
            else:
                adv[i] = net[i] - mean(others)
    if p.get("normalize"):
        # normalize_advantages: over the rollouts of the batch.
        whole = list(adv.values())
        adv = {r: (a - mean(whole)) / (torch.sqrt(variance(whole, 1)) + 1e-4) for r, a in adv.items()}
    ratio = {r: torch.exp(total(run.logp[i] - run.old[i] for i in t.tokens(r))) for r in t.rollouts}
    return per_rollout(run, {**p, "kl_in_loss": False}, adv, ratio)


def reinforce_pp(table, p):
    """Recipes 2.4 and 2.7, verl: gamma 1, reward at the end; returns whitened over all tokens."""
    run = Run(table, p)
    t = run.t
    reward = t.col("rollout/reward")
    returns = {i: reward[t.rollout_of[i]] for i in t.tokens()}
    spread = torch.sqrt(variance(returns.values()) + 1e-8)
    adv = dict(zip(returns, (x / spread for x in minus_mean(returns.values()))))
    return ppo_tokens(run, p, adv, run.token_ratios(), token_mean, level="token")


def calibrated(t, base, q, lam):
    """CalibAdv steps 3 and 4 (recipes A, 1): token -> advantage."""
    adv, answer_tokens = {}, [[] for _ in t.groups]
    for g in t.group_ids:
        for r in t.groups[g]:
            if not t.kept_rollout[r]:
                continue
            turns = t.elements(r)
            for s in turns:
                for i in t.tokens_in(s):
                    a = base(r, i)
                    if s == turns[-1]:
                        answer_tokens[g].append(i)
                    elif a < 0:
                        a = a * (1 - q[s])
                    adv[i] = a
    for tokens in answer_tokens:
        positive = total(adv[i] for i in tokens if adv[i] > 0)
        negative = -total(adv[i] for i in tokens if adv[i] < 0)
        for i in tokens:
            if positive == 0 or negative == 0:
                adv[i] = ZERO
            elif adv[i] > 0:
                adv[i] = adv[i] * lam * negative / positive
    return adv


def calibadv(table, p):
    """Recipes A, 1: verl's group norm, steps 3 and 4, clip, all tokens alike."""
    run = Run(table, p)
    t = run.t
    a = z_scores(t, t.col("rollout/reward"), 1e-6, singleton_raw=True)
    adv = calibrated(t, lambda r, i: a[r], t.col("turn/step_correct"), p["lam"])
    answer = ppo_tokens(run, p, adv, run.token_ratios(), token_mean, level="token")
    answer.values["advantage"] = ("turn", turn_values(t, adv))
    return answer


def turn_values(t, adv):
    """The advantage of a turn is that of its tokens; turns without a kept token are not compared."""
    out = {}
    for r in t.rollouts:
        for s in t.elements(r):
            for i in t.tokens_in(s):
                out[s] = adv[i]
    return out


def sft(table, p):
    """Mean negative log-likelihood of the kept tokens."""
    t = table.masked()
    logp = t.logp(p.get("temperature", 1.0))
    loss = -mean(logp[i] for i in t.tokens())
    return Answer(t, loss, {}, {"perplexity": torch.exp(loss.detach())})


OBJECTIVES = dict(
    grpo=grpo, bnpo=bnpo, dapo=bnpo, dr_grpo=dr_grpo, gspo=gspo, gspo_token=gspo_token, cispo=cispo,
    sapo=sapo, gmpo=gmpo, rloo=rloo, reinforce_pp=reinforce_pp, calibadv=calibadv, sft=sft,
)


def published(name, table, settings):
    return OBJECTIVES[name](table, {**DEFAULTS[name], **settings})
