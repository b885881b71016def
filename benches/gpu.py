"""Passes on a GPU: `rlc bench --device cuda` beside torch and Liger's Triton kernels on the same batch, medians.

    python gpu.py own RLC FOLDER SCRATCH [--until EPOCH]       ours: from logits, from hidden states, from log-probs
    python gpu.py peers RLC FOLDER SCRATCH [--until EPOCH]     torch eager, torch.compile, Liger

Batches lie in SCRATCH (7 GB). Every measurement is a process with a time limit, and gpu.json and gpu.md in FOLDER are written
anew after each: what hangs, crashes or finds no time left costs its own row. `peers` goes on from the gpu.json that is there.
Run by scripts/gpu.sh; nothing here has run on a GPU yet.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
TOKENS, VOCAB = 16384, 151936
STATES, WIDTH = 8192, 4096
# Name of the row, batch, program, options, the most that the issue allows: times the floor.
LOGITS, HIDDEN = "logits.safetensors", "hidden.safetensors"
ENTROPY = str(HERE / "programs" / "grpo_entropy.rl")
LOGP = ["--logp", "--groups", "2048", "--rollouts", "8", "--tokens"]
OWN = [
    ("grpo", LOGITS, "grpo", [], 1.3),
    ("grpo, entropy, k3", LOGITS, ENTROPY, ["--set", "beta=0.04"], None),
    ("gspo", LOGITS, "gspo", [], 1.3),
    ("grpo from hidden", HIDDEN, "grpo", [], 1.15),
    ("grpo, 16 M log-probs", None, "grpo", [*LOGP, "16000000"], 1.5),
    ("grpo, 1 M log-probs", None, "grpo", [*LOGP, "1000000"], None),
    ("grpo, 1 M log-probs, no graphs", None, "grpo", [*LOGP, "1000000"], None),
    ("grpo, entropy", LOGITS, ENTROPY, [], None),
]
# Row, batch, who, what they call the loss. The targets' peers first.
PEERS = [
    ("grpo", LOGITS, "torch.compile", "grpo"),
    ("grpo", LOGITS, "Liger's Triton kernel", None),
    ("grpo from hidden", HIDDEN, "torch.compile", "grpo"),
    ("grpo from hidden", HIDDEN, "Liger", "grpo"),
    ("gspo", LOGITS, "torch.compile", "gspo"),
    ("grpo, entropy", LOGITS, "torch.compile", "grpo_entropy"),
    ("grpo", LOGITS, "torch eager", "grpo"),
    ("grpo from hidden", HIDDEN, "torch eager", "grpo"),
    ("gspo", LOGITS, "torch eager", "gspo"),
    ("grpo, entropy", LOGITS, "torch eager", "grpo_entropy"),
]
# Seconds that one measurement may take: rlc reads 5 GB, torch.compile compiles.
LIMIT = {"own": 60, "peers": 75, "make": 75}


def make(name, path, tokens, vocab, width):
    """A batch of bf16 logits of deviation 2, or of hidden states that make such, drawn on the GPU."""
    import batch as batches
    import torch

    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    if name == HIDDEN:
        draw = lambda rows, scale: scale * torch.randn(rows, width, device="cuda")
        states, weight = draw(tokens, 1).bfloat16(), draw(vocab, 2 / width**0.5).bfloat16()
        logits_of = lambda part: (states[part] @ weight.T).cpu()
        arrays = batches._columns(logits_of, tokens, vocab, random, 8)
        arrays |= {"token/hidden": states.cpu(), "head/weight": weight.cpu()}
    else:
        new = torch.empty(tokens, vocab, dtype=torch.bfloat16)
        for first in range(0, tokens, 256):
            part = new[first : first + 256]
            part.copy_(2 * torch.randn(part.shape, device="cuda"))
        arrays = batches._columns(lambda part: new[part], tokens, vocab, random, 8)
        arrays["vocab/logits"] = new
        # For k3 alone, which takes log-probs of the reference.
        noise = torch.randn(tokens, generator=random)
        arrays["token/ref_logp"] = arrays["token/old_logp"] + 0.1 * noise
    # A file that is half written is none.
    batches.save_file(arrays, f"{path}.part")
    os.replace(f"{path}.part", path)


def timed(step, passes=20):
    """Seconds of the median pass, after three that warm up, and the last loss."""
    import torch

    times = []
    for n in range(passes + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        loss = step()[0]
        end.record()
        torch.cuda.synchronize()
        if n >= 3:
            times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2], loss.item()


def liger(batch, passes=20):
    """Its loss from logits, which writes the gradient over them: they are put back between passes."""
    import torch
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    logits = batch.padded("vocab/logits")
    # It reads a row more per rollout than there are actions.
    whole = torch.cat([logits, logits[:, :1]], 1).detach()
    action, mask = batch.padded("token/action"), batch.padded("token/mask").float()
    old, advantage = batch.padded("token/old_logp"), batch.advantage()
    times = []
    for _ in range(passes + 3):
        leaf = whole.clone().requires_grad_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        loss, _ = triton_grpo_loss(
            leaf, old, None, action, advantage, mask, temperature=1.0, beta=0.0,
            eps_low=0.2, eps_high=0.2, loss_type="grpo", reduce=True,
        )
        loss.backward()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times[3:])[passes // 2], loss.item()


def peer(path, who, loss):
    """A row's numbers, in a process of its own."""
    import batch as batches
    import torch

    batch = batches.Batch(path)
    batch.arrays = {name: array.cuda() for name, array in batch.arrays.items()}
    batch.inside = batch.inside.cuda()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    if loss is None:
        seconds, value = liger(batch)
    else:
        import peer_liger
        import peer_torch

        peers = peer_liger if who == "Liger" else peer_torch
        step = next(make for name, make in peers.contenders(loss, batch) if name == who)()
        seconds, value = timed(step)
    extra = torch.cuda.max_memory_allocated() - before
    return {"seconds": seconds, "loss": value, "memory": extra, "torch": torch.__version__}


def run(command, limit, **how):
    """What a command prints. Past the limit it goes with all it has started, which a compiler's workers outlive otherwise."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True, **how)
        try:
            code = process.wait(limit)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0), err.seek(0)
        if code:
            raise RuntimeError(err.read().strip() or f"exit code {code}")
        return out.read()


def ours(rlc, scratch, batch, program, options, graphs, limit):
    command = [rlc, "bench", program, "--device", "cuda", "--seconds", "2", "--json", *options]
    command += ["--batch", str(scratch / batch)] if batch else []
    environment = os.environ | ({} if graphs else {"RLC_GRAPHS": "0"})
    found = json.loads(run(command, limit, env=environment))
    live = found["time"].get("live") or found["time"]["pass"]
    return {"seconds": live["median"], "loss": found["loss"], "floor": found["floor"], "rlc": found}


class Results:
    """What is known so far, on disk after every measurement."""

    def __init__(self, folder, until, fresh):
        self.folder, self.until = folder, until
        path = folder / "gpu.json"
        known = {} if fresh or not path.exists() else json.loads(path.read_text())
        self.rows, self.left_out = known.get("rows", []), known.get("left_out", [])
        self.known = {key: known.get(key) for key in ("gpu",)}

    def note(self, work, who, limit, measure):
        """Runs a measurement in the time that is left."""
        left = min(limit, self.until - time.time())
        print(f"{work}, {who}", flush=True)
        try:
            if left < 10:
                raise RuntimeError("no time was left")
            self.rows.append({"work": work, "who": who} | measure(left))
        except Exception as why:
            said = str(why).strip().splitlines() or [type(why).__name__]
            if isinstance(why, subprocess.TimeoutExpired):
                said = [f"more than {left:.0f} s"]
            self.left_out.append({"who": who, "work": work, "why": said[-1]})
            print(f"left out: {why}", file=sys.stderr, flush=True)
        self.write()

    def write(self):
        result = self.known | {"rows": self.rows, "left_out": self.left_out}
        for name, text in (("gpu.json", json.dumps(result, indent=1) + "\n"), ("gpu.md", self.table())):
            part = self.folder / f"{name}.part"
            part.write_text(text)
            part.replace(self.folder / name)

    def table(self):
        floors = {row["work"]: row["floor"] for row in self.rows if "floor" in row}
        most = {name: target for name, *_, target in OWN}
        gpu = next((row["rlc"]["device"] for row in self.rows if "device" in row.get("rlc", {})), "a GPU")
        lines = [
            f"On {gpu}: {TOKENS:,} x {VOCAB:,} bf16 logits; {STATES:,} hidden states of {WIDTH:,} bf16 numbers to {VOCAB:,}"
            " entries, whose floor is the bare products'; columns of log-probs.",
            "",
            "| work | who | ms | times the floor | at most | launches, in graphs | extra memory, MB | loss |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            floor, own = floors.get(row["work"]), row.get("rlc", {})
            kernels, memory = own.get("launches"), own.get("extra", row.get("memory"))
            cells = [
                row["work"],
                row["who"],
                f"{1e3 * row['seconds']:.3f}",
                f"{row['seconds'] / floor:.2f}" if floor else "",
                f"{most.get(row['work']) or ''}" if own else "",
                f"{kernels['alone'] + kernels['in_graphs']}, {kernels['in_graphs']}" if kernels else "",
                "" if memory is None else f"{memory / 1e6:,.0f}",
                f"{row['loss']:.6f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        left = [f"Left out: {one['who']}, {one['work']}: {one['why']}" for one in self.left_out]
        return "\n".join([*lines, "", *left]) + "\n"


def child(arguments, limit):
    """This file again; its last line is JSON."""
    command = [sys.executable, str(HERE / "gpu.py"), *map(str, arguments)]
    return json.loads(run(command, limit, cwd=HERE).strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["own", "peers", "make", "peer"])
    parser.add_argument("rest", nargs="+")
    parser.add_argument("--until", type=float, default=float("inf"))
    parser.add_argument("--size", type=int, nargs=5, default=[TOKENS, VOCAB, STATES, VOCAB, WIDTH], help="for trying it out")
    args = parser.parse_args()
    if args.part == "make":
        name, path = args.rest
        tokens, vocab, states, entries, width = args.size
        make(name, path, *((states, entries) if name == HIDDEN else (tokens, vocab)), width)
        return print("{}")
    if args.part == "peer":
        path, who, *loss = args.rest
        return print(json.dumps(peer(path, who, *(loss or [None]))))
    rlc, folder, scratch = args.rest[0], *map(pathlib.Path, args.rest[1:])
    results = Results(folder, args.until, args.part == "own")
    wanted = OWN if args.part == "own" else PEERS
    for name in dict.fromkeys(row[1] for row in wanted if row[1]):
        if not (scratch / name).exists():
            size = ["--size", *args.size]
            results.note("batch", name, LIMIT["make"], lambda left: child(["make", name, scratch / name, *size], left) | {"seconds": 0, "loss": 0})
    results.rows = [row for row in results.rows if row["work"] != "batch"]
    if args.part == "own":
        for name, batch, program, options, _ in OWN:
            graphs = "no graphs" not in name
            results.note(name, "rlc", LIMIT["own"], lambda left: ours(rlc, scratch, batch, program, options, graphs, left))
    else:
        for name, batch, who, loss in PEERS:
            given = [loss] if loss else []
            results.note(name, who, LIMIT["peers"], lambda left: child(["peer", scratch / batch, who, *given], left))
    results.write()
    print(results.table())
    raise SystemExit(1 if any(one["who"] in ("rlc", LOGITS, HIDDEN) for one in results.left_out) else 0)


if __name__ == "__main__":
    main()
