"""JAX: the losses of losses.py under jax.jit, loss and gradient in one program."""

import jax
import jax.numpy as jnp
import numpy as np

import losses
import peer_torch

OBJECTIVES = peer_torch.OBJECTIVES


def _array(tensor):
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return jnp.asarray(tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16))
    return jnp.asarray(tensor.numpy())


def _from_logits(objective, group, logits, b):
    new = jax.nn.log_softmax(logits.astype(jnp.float32), -1)
    logp = jnp.take_along_axis(new, b["action"][..., None], -1)[..., 0]
    if objective in losses.PLAIN:
        return losses.PLAIN[objective](jnp, losses.Padded(), group, logp, b)
    ref = jax.nn.log_softmax(b["ref_logits"].astype(jnp.float32), -1) if "ref_logits" in b else None
    return losses.with_distribution(jnp, group, new, ref, logp, b)


def _segments(batch):
    """Sums by rollout as differences of running sums: adding to places is slow on the CPU."""
    ends = np.concatenate([[0], np.cumsum(batch.size)])

    def total(x):
        running = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
        return jnp.diff(running[ends])

    return total


def _losses(objective, batch):
    """(suffix, loss, what it is differentiated by, the rest)"""
    a, padded, group = batch.arrays, batch.padded, batch.group
    arrays = lambda b: {name: _array(tensor) for name, tensor in b.items()}
    if batch.start == "logp":
        count, turns = len(batch.size), len(a["turn/size"]) // len(batch.size)
        of_turn = np.zeros(tuple(batch.inside.shape), np.int32)
        of_turn[batch.inside.numpy()] = batch.ids("turn").numpy() % turns
        repeat = lambda level: lambda x: jnp.repeat(
            x, a[f"{level}/size"].numpy(), total_repeat_length=sum(batch.size)
        )
        layouts = {
            "padded": losses.Padded(lambda x: jnp.take_along_axis(x, of_turn, 1)),
            "packed": losses.Packed(_segments(batch), repeat("rollout"), repeat("turn")),
        }
        for name, layout in layouts.items():
            logp = padded("token/logp") if name == "padded" else a["token/logp"]
            loss = lambda wrt, b, layout=layout: losses.PLAIN[objective](jnp, layout, group, wrt["logp"], b)
            rest = arrays(peer_torch.columns(batch, name == "padded"))
            yield f" {name}", loss, {"logp": _array(logp)}, rest
        return
    rest = arrays(peer_torch.columns(batch, True)) | {"action": _array(padded("token/action"))}
    if "vocab/ref_logits" in a:
        rest["ref_logits"] = _array(padded("vocab/ref_logits"))
    if batch.start == "hidden":
        wrt = {"hidden": _array(padded("token/hidden")), "weight": _array(a["head/weight"])}
        yield "", lambda w, b: _from_logits(objective, group, w["hidden"] @ w["weight"].T, b), wrt, rest
    else:
        wrt = {"logits": _array(padded("vocab/logits"))}
        yield "", lambda w, b: _from_logits(objective, group, w["logits"], b), wrt, rest


def _step(loss, wrt, rest):
    both = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(both(wrt, rest))


def contenders(objective, batch):
    """See peer_torch."""
    for suffix, loss, wrt, rest in _losses(objective, batch):
        yield f"jax{suffix}", lambda loss=loss, wrt=wrt, rest=rest: _step(loss, wrt, rest)


def versions():
    """What was measured."""
    return {"jax": jax.__version__}
