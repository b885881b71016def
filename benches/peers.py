"""Times rlc and its peers on the same tensors, in turns: logits to loss and d loss/d logits.

    python -m venv peers && . peers/bin/activate
    pip install torch safetensors trl liger-kernel
    pip install --no-deps verl && pip install tensordict omegaconf hydra-core codetiming ray orjson

    cargo build --release
    python benches/peers.py --rlc target/release/rlc --out results

Losses and gradients must agree before anything is timed. What is not installed, or cannot run here,
is named and left out. Writes OUT.json and OUT.md.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = ("peer_torch", "peer_trl", "peer_verl", "peer_liger")
OBJECTIVES = ("grpo", "gspo", "grpo_entropy_kl")
# Freed memory stays with the process, as memory of a training loop does: no page is touched anew.
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}
# Largest difference of a gradient, in the largest gradient, and the share of tokens that keep to it:
# a ratio at the edge of the clip may fall to either side, and does so often where a peer takes the
# log-softmax of bf16 logits in bf16. Fewer than ALIKE are marked in the table.
TOLERANCE = {"f32": (1e-3, 0.995), "bf16": (5e-2, 0.7)}
ALIKE = 0.995


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlc", required=True, help="the rlc binary, built with --release")
    parser.add_argument("--sizes", default="512x32000,2048x8192", help="TOKENSxVOCAB, comma-separated")
    parser.add_argument("--dtype", default="f32", help="f32, bf16 or both, comma-separated")
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}", help="thread counts, comma-separated")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn; at least one pass")
    parser.add_argument("--buffers", choices=("reused", "fresh"), default="reused", help="of all contenders")
    parser.add_argument("--out", default="peers", help="where results go, without an ending")
    return parser.parse_args()


class Rlc:
    """Our side: one process per turn."""

    def __init__(self, binary, objective, file, threads, buffers):
        program = HERE / "programs" / f"{objective}.rl"
        self.program = str(program) if program.exists() else objective
        self.binary, self.file, self.buffers = binary, str(file), buffers
        self.environment = {k: v for k, v in os.environ.items() if k not in KEPT}
        self.environment["RAYON_NUM_THREADS"] = str(threads)
        self.last = None

    def call(self, *args):
        done = subprocess.run([self.binary, *args], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"rlc {' '.join(args)} failed:\n{done.stderr}")
        return done.stdout

    def evaluate(self, out):
        """Loss, and gradients in a file."""
        return json.loads(self.call("eval", self.program, "--batch", self.file, "--out", str(out), "--json"))["loss"]

    def turn(self, seconds):
        """Median and minimum of one process's passes."""
        self.last = json.loads(
            self.call("bench", self.program, "--batch", self.file, "--seconds", str(seconds), "--json")
        )
        times = self.last["time"]["pass" if self.buffers == "reused" else "fresh"]
        return times["median"], times["min"]


class Peer:
    """A step that is called again and again."""

    def __init__(self, step):
        self.step = step

    def turn(self, seconds):
        self.step()
        times, begin = [], time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            out = self.step()
            # Freeing the gradient belongs to the pass.
            del out
            times.append(time.perf_counter() - start)
        return statistics.median(times), min(times)


def disagreement(dtype, loss, gradient, expected, reference):
    """How far a peer is from us, and what is wrong with that, if anything."""
    tolerance, share = TOLERANCE[dtype]
    worst = (gradient.float() - reference).abs().amax(-1) / reference.abs().max()
    agreeing = (worst <= tolerance).float().mean().item()
    numbers = {
        "loss": loss,
        "loss_difference": abs(loss - expected),
        "gradient_difference": worst.max().item(),
        "tokens_agreeing": agreeing,
    }
    wrong = abs(loss - expected) > tolerance * (1 + abs(expected)) or agreeing < share
    return numbers, f"does not agree: {numbers}" if wrong else None


class Bench:
    """Everything that is measured, and why something was not."""

    def __init__(self, args):
        self.args, self.modules, self.results, self.left_out = args, [], [], {}
        version = subprocess.run([args.rlc, "--version"], capture_output=True, text=True, check=True)
        self.versions = {"rlc": version.stdout.split()[-1], "python": platform.python_version()}
        for name in PEERS:
            try:
                module = importlib.import_module(name)
                self.versions.update(module.versions())
                self.modules.append(module)
            except Exception as why:
                self.left_out[name.removeprefix("peer_")] = f"not installed: {why}"

    def run(self):
        args = self.args
        for size in args.sizes.split(","):
            tokens, vocab = (int(n) for n in size.lower().split("x"))
            for dtype in args.dtype.split(","):
                for objective in args.objectives.split(","):
                    self.compare(objective, tokens, vocab, dtype)

    def compare(self, objective, tokens, vocab, dtype):
        """One objective on one batch, with each number of threads."""
        import batch as batches
        from safetensors.torch import load_file

        batch = batches.make(tokens, vocab, dtype, reference=objective == "grpo_entropy_kl")
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder) / "batch.safetensors", Path(folder) / "out.safetensors"
            batches.write(batch, file)
            ours = Rlc(self.args.rlc, objective, file, 1, self.args.buffers)
            expected = ours.evaluate(out), load_file(out)["grad/logits"].reshape(batch.shape)
            for threads in (int(n) for n in self.args.threads.split(",")):
                entry = {"objective": objective, "tokens": tokens, "vocab": vocab, "dtype": dtype}
                entry |= {"threads": threads, "buffers": self.args.buffers}
                ours = Rlc(self.args.rlc, objective, file, threads, self.args.buffers)
                entry["agreement"], contenders = self.contenders(objective, batch, dtype, threads, expected)
                entry["times"] = self.take_turns({"rlc": ours, **contenders}, row_name(entry))
                entry["rlc"] = ours.last
                self.results.append(entry)
                print(row(entry), flush=True)

    def contenders(self, objective, batch, dtype, threads, expected):
        """The peers whose loss and gradient are ours."""
        import torch

        torch.set_num_threads(threads)
        torch._dynamo.reset()
        agreement, contenders = {}, {}
        for module in self.modules:
            made = module.contenders(objective, batch) if objective in module.OBJECTIVES else ()
            for name, make in made:
                try:
                    step = make()
                    loss, gradient = step()
                    agreement[name], wrong = disagreement(dtype, loss.item(), gradient, *expected)
                    del loss, gradient
                    if wrong:
                        self.left_out[f"{name} ({objective}, {dtype})"] = wrong
                    else:
                        contenders[name] = Peer(step)
                except Exception as why:
                    self.left_out[name] = (str(why) or type(why).__name__).splitlines()[0]
        return agreement, contenders

    def take_turns(self, contenders, what):
        """A B C, A B C, ...: whatever else the machine does falls on all of them."""
        turns = {name: [] for name in contenders}
        for turn in range(self.args.rounds):
            for name, contender in contenders.items():
                print(f"{what}, round {turn + 1}: {name}", file=sys.stderr)
                turns[name].append(contender.turn(self.args.seconds))
        return {
            name: {
                "median": statistics.median(t[0] for t in own),
                "min": min(t[1] for t in own),
                "turns": [t[0] for t in own],
            }
            for name, own in turns.items()
        }


NAMES = ("rlc", "torch eager", "torch.compile", "TRL", "verl", "Liger")


def row_name(entry):
    return f"{entry['objective']}, {entry['tokens']} x {entry['vocab']} {entry['dtype']}, {entry['threads']} threads"


def row(entry):
    """A line of the table: medians and minima in ms, and each peer's median in ours (above 1: we are faster)."""
    ours = entry["times"]["rlc"]["median"]
    cells = []
    for name in NAMES:
        found = entry["times"].get(name)
        if found is None:
            cells.append("-")
            continue
        cell = f"{1e3 * found['median']:.1f} ({1e3 * found['min']:.1f})"
        if name != "rlc":
            cell += f" {found['median'] / ours:.2f}x"
            cell += "*" if entry["agreement"][name]["tokens_agreeing"] < ALIKE else ""
        cells.append(cell)
    copy = entry["rlc"]["copy"]["one_thread" if entry["threads"] == 1 else "all_cores"]
    floor = 1e3 * entry["rlc"]["bytes"]["least"] / copy
    size = f"{entry['tokens']:,} x {entry['vocab']:,} {entry['dtype']}"
    start = [entry["objective"], size, str(entry["threads"]), f"{floor:.1f}"]
    return "| " + " | ".join(start + cells) + " |"


def table(bench):
    head = "| objective | tokens x vocab | threads | floor | " + " | ".join(NAMES) + " |"
    lines = [head, "|" + "---|" * (head.count("|") - 1), *(row(entry) for entry in bench.results), ""]
    versions = ", ".join(f"{name} {version}" for name, version in bench.versions.items())
    lines.append(f"Milliseconds: median (minimum), then the peer's median in rlc's. {versions}.")
    if any("x*" in line for line in lines):
        lines.append(f"\\* Its gradient is another one at more than {1 - ALIKE:.1%} of the tokens.")
    lines += [f"Left out: {name}: {why}." for name, why in bench.left_out.items()]
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    if args.buffers == "reused" and any(os.environ.get(k) != v for k, v in KEPT.items()):
        # The allocator reads these when the process begins.
        environment = {**os.environ, **KEPT, "OMP_WAIT_POLICY": "passive"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    bench = Bench(args)
    bench.run()
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "versions": bench.versions,
        "left_out": bench.left_out,
        "load_at_the_end": os.getloadavg(),
        "arguments": {k: v for k, v in vars(args).items() if k not in ("rlc", "out")},
        "results": bench.results,
    }
    Path(args.out + ".json").write_text(json.dumps(found, indent=1) + "\n")
    Path(args.out + ".md").write_text(table(bench))
    print("\n" + table(bench))


if __name__ == "__main__":
    main()
