"""JAX from log-probs given in packed columns to the loss and d loss/d logp, on the CPU.

    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" \\
        taskset -c 0 python benches/columns_jax.py

Both stages are timed: advantages from rewards, then the loss and its gradient. Rows lie packed, as ours do; which rollout,
turn and group a row belongs to is known while compiling, and segments come sorted, as a careful user would have it.
`--torch` times the same losses through torch.compile.
"""

import argparse
import json
import statistics
import time

import numpy as np

OBJECTIVES = ("grpo_k3", "gspo", "calibadv")


def columns(rollouts=64, group=8, longest=1024, tokens=35_422, turns=4, seed=0):
    """A ragged batch as numpy arrays: sizes, and a number per row of each column."""
    random = np.random.default_rng(seed)
    size = random.integers(64, longest + 1, rollouts)
    # To this many tokens in all.
    while size.sum() != tokens:
        at = random.integers(rollouts)
        size[at] = np.clip(size[at] + np.sign(tokens - size.sum()), 64, longest)
    turn = np.concatenate([np.full(turns, n // turns) + (np.arange(turns) < n % turns) for n in size])
    f32 = lambda x: np.asarray(x, np.float32)
    logp = f32(-2 - abs(random.normal(size=tokens)))
    return {
        "rollout_size": size,
        "turn_size": turn,
        "rollouts": rollouts,
        "group": group,
        "turns": turns,
        "logp": logp,
        "old_logp": f32(logp + 0.1 * random.normal(size=tokens)),
        "ref_logp": f32(logp + 0.1 * random.normal(size=tokens)),
        "mask": random.random(tokens) < 0.9,
        "reward": f32(random.random(rollouts)),
        "step_correct": f32(random.random(rollouts * turns)),
    }


class Ids:
    """Which row of a coarser level each row belongs to, as constants."""

    def __init__(self, c):
        self.rollout = np.repeat(np.arange(c["rollouts"]), c["rollout_size"])
        self.turn = np.repeat(np.arange(len(c["turn_size"])), c["turn_size"])
        self.turn_group = np.arange(len(c["turn_size"])) // (c["turns"] * c["group"])
        self.turn_rollout = np.arange(len(c["turn_size"])) // c["turns"]
        self.last = np.arange(len(c["turn_size"])) % c["turns"] == c["turns"] - 1
        self.group = np.arange(c["rollouts"]) // c["group"]


def losses(xp, segment_sum, take, c):
    """The three losses over a library's operators: `loss(logp, rest)`."""
    ids, rollouts, group = Ids(c), c["rollouts"], c["group"]

    def group_norm(reward, eps):
        r = reward.reshape(-1, group)
        gap = r - r.mean(1, keepdims=True)
        return (gap / (xp.sqrt((gap * gap).sum(1, keepdims=True) / (group - 1)) + eps)).reshape(-1)

    def clipped(ratio, a, low, high):
        return xp.minimum(ratio * a, xp.clip(ratio, 1 - low, 1 + high) * a)

    def seq_mean(x, mask):
        n = segment_sum(mask, ids.rollout, rollouts)
        return (segment_sum(x * mask, ids.rollout, rollouts) / xp.maximum(n, xp.ones_like(n))).mean()

    def grpo_k3(logp, r):
        a = take(group_norm(r["reward"], 1e-4), ids.rollout)
        gap = r["ref_logp"] - logp
        ratio = xp.exp(logp - r["old_logp"])
        return seq_mean(0.04 * (xp.expm1(gap) - gap) - clipped(ratio, a, 0.2, 0.2), r["mask"])

    def gspo(logp, r):
        n = segment_sum(r["mask"], ids.rollout, rollouts)
        gap = segment_sum((logp - r["old_logp"]) * r["mask"], ids.rollout, rollouts)
        ratio = xp.exp(gap / xp.maximum(n, xp.ones_like(n)))
        return -clipped(ratio, group_norm(r["reward"], 1e-4), 3e-4, 4e-4).mean()

    def calibadv(logp, r):
        turns, groups = len(ids.turn_group), rollouts // group
        a = take(group_norm(r["reward"], 1e-6), ids.turn_rollout)
        n = segment_sum(r["mask"], ids.turn, turns) * ids_last
        zero = xp.zeros_like(a)
        positive = segment_sum(xp.maximum(a, zero) * n, ids.turn_group, groups)
        negative = segment_sum(xp.maximum(-a, zero) * n, ids.turn_group, groups)
        p, m = take(positive, ids.turn_group), take(negative, ids.turn_group)
        balanced = xp.where(a > 0, a * m / xp.where(p > 0, p, xp.ones_like(p)), a)
        softened = xp.where(a < 0, a * (1 - r["step_correct"]), a)
        a = xp.where(r["last"], xp.where((p > 0) & (m > 0), balanced, zero), softened)
        ratio = xp.exp(logp - r["old_logp"])
        surrogate = clipped(ratio, take(a, ids.turn), 0.2, 0.2)
        return -(surrogate * r["mask"]).sum() / r["mask"].sum()

    ids_last = c["last_f32"]
    return {"grpo_k3": grpo_k3, "gspo": gspo, "calibadv": calibadv}


def with_jax(c):
    """A step per objective: columns in, loss and gradient out."""
    import jax
    import jax.numpy as jnp

    c["last_f32"] = Ids(c).last.astype(np.float32)
    segment = lambda x, ids, n: jax.ops.segment_sum(x, ids, n, indices_are_sorted=True)
    take = lambda x, ids: jnp.take(x, ids, indices_are_sorted=True)
    rest = {k: jnp.asarray(c[k], jnp.float32) for k in ("old_logp", "ref_logp", "mask", "reward", "step_correct")}
    rest["last"] = jnp.asarray(Ids(c).last)
    logp = jnp.asarray(c["logp"])
    for name, loss in losses(jnp, segment, take, c).items():
        step = jax.jit(jax.value_and_grad(loss))
        yield f"jax {name}", lambda step=step: jax.block_until_ready(step(logp, rest))


def with_jax_cumsum(c):
    """The same with sums as differences of running sums, and takes as repeats of known lengths."""
    import jax
    import jax.numpy as jnp

    c["last_f32"] = Ids(c).last.astype(np.float32)

    def segment(x, ids, n):
        ends = np.searchsorted(np.asarray(ids), np.arange(n), side="right")
        total = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
        return jnp.diff(total[np.concatenate([[0], ends])])

    def take(x, ids):
        return jnp.repeat(x, np.bincount(ids), total_repeat_length=len(ids))

    rest = {k: jnp.asarray(c[k], jnp.float32) for k in ("old_logp", "ref_logp", "mask", "reward", "step_correct")}
    rest["last"] = jnp.asarray(Ids(c).last)
    logp = jnp.asarray(c["logp"])
    for name, loss in losses(jnp, segment, take, c).items():
        step = jax.jit(jax.value_and_grad(loss))
        yield f"jax, running sums {name}", lambda step=step: jax.block_until_ready(step(logp, rest))


def with_jax_loops(c):
    """The same with rows padded to the longest rollout while compiling: dense sums, columns given padded."""
    import jax
    import jax.numpy as jnp

    size, n = c["rollout_size"], c["rollouts"]
    longest = int(size.max())
    inside = np.arange(longest)[None] < size[:, None]

    def padded(x):
        out = np.zeros((n, longest), np.float32)
        out[inside] = x
        return jnp.asarray(out)

    rest = {k: padded(c[k]) for k in ("old_logp", "ref_logp", "mask")}
    rest["reward"] = jnp.asarray(c["reward"])
    logp, group = padded(c["logp"]), c["group"]

    def group_norm(reward, eps=1e-4):
        r = reward.reshape(-1, group)
        gap = r - r.mean(1, keepdims=True)
        return (gap / (jnp.sqrt((gap * gap).sum(1, keepdims=True) / (group - 1)) + eps)).reshape(-1)

    def clipped(ratio, a, low, high):
        return jnp.minimum(ratio * a, jnp.clip(ratio, 1 - low, 1 + high) * a)

    def grpo_k3(logp, r):
        a = group_norm(r["reward"])[:, None]
        gap = r["ref_logp"] - logp
        x = 0.04 * (jnp.expm1(gap) - gap) - clipped(jnp.exp(logp - r["old_logp"]), a, 0.2, 0.2)
        return ((x * r["mask"]).sum(1) / jnp.maximum(r["mask"].sum(1), 1)).mean()

    def gspo(logp, r):
        gap = ((logp - r["old_logp"]) * r["mask"]).sum(1) / jnp.maximum(r["mask"].sum(1), 1)
        return -clipped(jnp.exp(gap), group_norm(r["reward"]), 3e-4, 4e-4).mean()

    for name, loss in {"grpo_k3": grpo_k3, "gspo": gspo}.items():
        step = jax.jit(jax.value_and_grad(loss))
        yield f"jax, padded {name}", lambda step=step: jax.block_until_ready(step(logp, rest))


def with_torch(c):
    """The same losses through torch.compile; sums of segments by index_add."""
    import torch

    torch.set_num_threads(1)
    c["last_f32"] = torch.tensor(Ids(c).last.astype(np.float32))
    known = {}

    def index(ids):
        return known.setdefault(id(ids), torch.tensor(ids))

    class Xp:
        exp, expm1, sqrt, where = torch.exp, torch.expm1, torch.sqrt, torch.where
        minimum, maximum, clip = torch.minimum, torch.maximum, torch.clamp
        ones_like, zeros_like = torch.ones_like, torch.zeros_like

    segment = lambda x, ids, n: torch.zeros(n).index_add(0, index(ids), x)
    take = lambda x, ids: x[index(ids)]
    rest = {k: torch.tensor(c[k]).float() for k in ("old_logp", "ref_logp", "mask", "reward", "step_correct")}
    rest["last"] = torch.tensor(Ids(c).last)
    logp = torch.tensor(c["logp"]).requires_grad_()
    for name, loss in losses(Xp, segment, take, c).items():
        # Indices are made before anything is traced.
        loss(logp, rest)
        compiled = torch.compile(loss, dynamic=False)

        def step(compiled=compiled):
            value = compiled(logp, rest)
            (gradient,) = torch.autograd.grad(value, logp)
            return value, gradient

        yield f"torch.compile {name}", step


def timed(step, seconds):
    """Median and minimum of the passes that fit."""
    for _ in range(5):
        step()
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


def versions():
    """What was measured."""
    import jax

    return {"jax": jax.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each objective")
    parser.add_argument("--torch", action="store_true", help="times torch.compile too")
    parser.add_argument("--json", action="store_true", help="one JSON object: seconds")
    args = parser.parse_args()
    made = [with_jax, with_jax_cumsum, with_jax_loops] + ([with_torch] if args.torch else [])
    found = {}
    for make in made:
        for name, step in make(columns()):
            loss = float(step()[0])
            median, least = timed(step, args.seconds)
            found[name] = {"loss": loss, "median": median, "min": least}
            if not args.json:
                print(f"{name:34} loss {loss:.7f}  median {1e3 * median:.3f} ms  min {1e3 * least:.3f} ms", flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
