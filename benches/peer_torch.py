"""PyTorch: the losses of losses.py, eager, and the same functions through torch.compile."""

import functools

import torch
import torch.nn.functional as F

import losses

OBJECTIVES = {
    "logits": ("grpo", "gspo", "grpo_entropy", "grpo_entropy_kl"),
    "logp": ("grpo_k3", "gspo", "calibadv"),
    "hidden": ("grpo", "gspo"),
}


def columns(batch, padded):
    """What has no gradient."""
    get = batch.padded if padded else batch.arrays.__getitem__
    names = ("old_logp", "ref_logp", "mask")
    b = {n: get(f"token/{n}").float() for n in names if f"token/{n}" in batch.arrays}
    if batch.start != "logp":
        return b | {"advantage": batch.advantage()}
    batch.arrays["token/last"] = batch.last()
    b |= {"reward": batch.arrays["rollout/reward"], "last": get("token/last").float()}
    correct = batch.arrays["turn/step_correct"]
    return b | {"step_correct": correct.view(len(batch.size), -1) if padded else correct}


def _log_softmax(logits):
    # bf16 logits are accumulated in f32.
    return F.log_softmax(logits, -1, dtype=torch.float32)


def _from_logits(objective, group, b, action, ref_logits, logits):
    new = _log_softmax(logits)
    logp = new.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    if objective in losses.PLAIN:
        return losses.PLAIN[objective](torch, losses.Padded(), group, logp, b)
    ref = None if ref_logits is None else _log_softmax(ref_logits)
    return losses.with_distribution(torch, group, new, ref, logp, b)


def _from_hidden(objective, group, b, action, hidden, weight):
    return _from_logits(objective, group, b, action, None, hidden @ weight.T)


def _step(loss_of, wrt):
    leaves = {name: tensor.requires_grad_() for name, tensor in wrt.items()}

    def step():
        loss = loss_of(*leaves.values())
        return loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))

    return step


def _losses(objective, batch):
    """(suffix, loss, what it is differentiated by)"""
    a, padded = batch.arrays, batch.padded
    if batch.start == "hidden":
        b = columns(batch, True)
        loss = functools.partial(_from_hidden, objective, batch.group, b, padded("token/action"))
        yield "", loss, {"hidden": padded("token/hidden"), "weight": a["head/weight"]}
    elif batch.start == "logits":
        ref = padded("vocab/ref_logits") if "vocab/ref_logits" in a else None
        b = columns(batch, True)
        loss = functools.partial(_from_logits, objective, batch.group, b, padded("token/action"), ref)
        yield "", loss, {"logits": padded("vocab/logits")}
    else:
        rollout, turn, count = batch.ids("rollout"), batch.ids("turn"), len(batch.size)
        turns = len(a["turn/size"]) // count
        of_turn = torch.zeros(batch.inside.shape, dtype=torch.long)
        of_turn[batch.inside] = turn % turns
        layouts = {
            "padded": losses.Padded(lambda x: x.gather(1, of_turn)),
            "packed": losses.Packed(
                lambda x: torch.zeros(count).index_add(0, rollout, x), lambda x: x[rollout], lambda x: x[turn]
            ),
        }
        for name, layout in layouts.items():
            b = columns(batch, name == "padded")
            loss = lambda logp, layout=layout, b=b: losses.PLAIN[objective](torch, layout, batch.group, logp, b)
            logp = (padded("token/logp") if name == "padded" else a["token/logp"]).clone()
            yield f" {name}", loss, {"logp": logp}


def contenders(objective, batch):
    """Name and step of each: a step gives the loss and a dict of gradients."""
    for suffix, loss, wrt in _losses(objective, batch):
        yield f"torch eager{suffix}", lambda loss=loss, wrt=wrt: _step(loss, wrt)
        compiled = torch.compile(loss, dynamic=False, fullgraph=True)
        yield f"torch.compile{suffix}", lambda loss=compiled, wrt=wrt: _step(loss, wrt)


def versions():
    """What was measured."""
    return {"torch": torch.__version__}
