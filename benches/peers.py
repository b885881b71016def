"""Times rlc and its peers on the same arrays, in turns, each in a process of its own on the same cores.

    python benches/peers.py --rlc target/release/rlc                             512 x 32,000 logits, and so on
    python benches/peers.py --rlc target/release/rlc --start hidden --threads 2
    python benches/peers.py --rlc target/release/rlc --all --write docs/benchmarks.md

From logits, from log-probs or from hidden states to the loss and its gradients. Losses and gradients must agree before
anything is timed. What is not installed, or cannot run here, is named and left out. What to install: README.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
PEERS = ("peer_torch", "peer_jax", "peer_trl", "peer_verl", "peer_liger")
OBJECTIVES = {
    "logits": ("grpo", "gspo", "grpo_entropy", "grpo_entropy_kl"),
    "logp": ("grpo_k3", "gspo", "calibadv"),
    "hidden": ("grpo", "gspo"),
}
SIZES = {"logits": "512x32000", "logp": "35422", "hidden": "2048x896x32000"}
# Freed memory stays with the process, as memory of a training loop does: no page is touched anew.
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}
# Largest difference of a row of a gradient, in the largest gradient, and the share of rows that keep to it: a ratio at
# the edge of the clip may fall to either side, and does so often where a peer takes the log-softmax of bf16 logits in
# bf16.
TOLERANCE = {"f32": (1e-3, 0.995), "bf16": (5e-2, 0.7)}
# (name of the table, start, size, number type, objectives, threads, buffers)
ALL = [
    ("logits", "logits", "512x32000", "f32", ("grpo", "grpo_entropy", "gspo", "grpo_entropy_kl"), 1, "reused"),
    ("logits", "logits", "256x151936", "f32", ("grpo", "grpo_entropy"), 1, "reused"),
    ("logits", "logits", "512x32000", "bf16", ("grpo",), 1, "reused"),
    ("logits", "logits", "256x151936", "bf16", ("grpo",), 1, "reused"),
    ("logp", "logp", "35422", "f32", ("grpo_k3", "gspo", "calibadv"), 1, "reused"),
    ("logits", "logits", "512x32000", "f32", ("grpo",), 2, "reused"),
    ("logits", "logits", "256x151936", "f32", ("grpo",), 2, "reused"),
    ("hidden", "hidden", "2048x896x32000", "f32", ("grpo", "gspo"), 2, "reused"),
    ("fresh", "logits", "512x32000", "f32", ("grpo",), 1, "fresh"),
]
# Ours from hidden states, two threads: tokens, width, vocab, memory as a share of the logits.
BUDGETS = [(2048, 896, 32_000, 0.25), (2048, 896, 32_000, 0.0625), (512, 896, 151_936, 0.25), (512, 896, 151_936, 0.0625)]
# The same with everything small, to try the machinery.
SMALL = {"512x32000": "64x1000", "256x151936": "32x3000", "35422": "20000", "2048x896x32000": "128x64x500"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlc", default="target/release/rlc", help="the rlc binary, built with --release")
    parser.add_argument("--all", action="store_true", help="every table of docs/benchmarks.md")
    parser.add_argument("--write", metavar="FILE", help="put the tables between the markers of this file")
    parser.add_argument("--small", action="store_true", help="with --all: small sizes, to try the machinery")
    parser.add_argument("--start", default="logits", choices=tuple(SIZES), help="what a pass starts from")
    parser.add_argument("--sizes", help="TOKENSxVOCAB, TOKENS or TOKENSxWIDTHxVOCAB; comma-separated")
    parser.add_argument("--dtype", default="f32", help="of logits: f32, bf16 or both, comma-separated")
    parser.add_argument("--threads", default="1", help="thread counts, comma-separated")
    parser.add_argument("--objectives", help="comma-separated")
    parser.add_argument("--peers", default=",".join(p.removeprefix("peer_") for p in PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a turn; at least one pass")
    parser.add_argument("--buffers", choices=("reused", "fresh"), default="reused", help="of all contenders")
    parser.add_argument("--memory", type=float, help="hidden states: our budget, as a share of the logits")
    parser.add_argument("--out", default="peers", help="where results go, without an ending")
    return parser.parse_args()


def jobs(args):
    """(table, start, size, dtype, objective, threads, buffers), one batch after the other."""
    if args.all:
        for table, start, size, dtype, objectives, threads, buffers in ALL:
            size = SMALL[size] if args.small else size
            yield from ((table, start, size, dtype, o, threads, buffers) for o in objectives)
        return
    for size in (args.sizes or SIZES[args.start]).split(","):
        for dtype in args.dtype.split(","):
            for threads in args.threads.split(","):
                for objective in (args.objectives or ",".join(OBJECTIVES[args.start])).split(","):
                    yield args.start, args.start, size, dtype, objective, int(threads), args.buffers


def run(command, threads):
    """What a command prints, run on as many cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    environment = {k: v for k, v in os.environ.items() if k not in KEPT}
    pin = lambda: os.sched_setaffinity(0, cores)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=pin)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def alone(args):
    """What has no peer: budgets of hidden states, growth, compile times."""
    bench = lambda *more: json.loads(run([args.rlc, "bench", *more, "--json"], 2))
    budgets = []
    for tokens, width, vocab, share in BUDGETS:
        if args.small:
            tokens, width, vocab = tokens // 16, width // 16, vocab // 16
        for objective in ("grpo", "gspo"):
            print(f"{objective}, {tokens} x {width} to {vocab}, {share} of the logits", file=sys.stderr)
            size = ["--tokens", str(tokens), "--hidden", str(width), "--vocab", str(vocab)]
            # Three passes and three times the products.
            seconds = "0.1" if args.small else "15"
            budget = ["--memory", str(share), "--threads", "2", "--seconds", seconds]
            budgets.append(bench(objective, *size, *budget))
    print("growth", file=sys.stderr)
    plot = Path(args.write).parent / "growth.svg" if args.write else Path(args.out + ".svg")
    growth = bench("grpo", "--growth", "--seconds", "0" if args.small else "2", "-o", str(plot))
    return {"budgets": budgets, "growth": growth["growth"], "compile": bench("--compile-times")["compile"]}


class Rlc:
    """Our side: one process per turn."""

    def __init__(self, args, objective, file, threads, buffers):
        program = HERE / "programs" / f"{objective}.rl"
        what = [str(program)] if program.exists() else [objective]
        if objective == "grpo_k3":
            what = ["grpo", "--set", "beta=0.04"]
        self.command = [args.rlc, "bench", *what, "--batch", str(file), "--threads", str(threads), "--json"]
        if buffers == "reused":
            self.command.append("--only-reused")
        self.buffers, self.threads, self.last = buffers, threads, None
        self.budget = args.memory

    def call(self, *more):
        self.last = json.loads(run([*self.command, *more], self.threads))
        return self.last

    def reference(self, out):
        """Writes loss and gradients to a file."""
        self.call("--seconds", "0", "--out", str(out))

    def turn(self, seconds):
        """Median and minimum of one process's passes."""
        budget = [] if self.budget is None else ["--memory", str(self.budget)]
        return self.call("--seconds", str(seconds), *budget)["time"]["pass" if self.buffers == "reused" else "fresh"]


class Peer:
    """A worker process."""

    def __init__(self, name, threads, buffers):
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"} | (KEPT if buffers == "reused" else {})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name, str(threads)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "its process died"}

    def ask(self, do, **more):
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """Everything that is measured, and why something was not."""

    def __init__(self, args):
        self.args, self.results, self.left_out = args, [], {}
        version = subprocess.run([args.rlc, "--version"], capture_output=True, text=True, check=True)
        self.versions = {"rlc": version.stdout.split()[-1], "python": platform.python_version()}
        self.workers, self.hired, self.made = {}, None, None

    def hire(self, threads, buffers):
        """Workers with this many threads."""
        if self.hired == (threads, buffers):
            return
        self.dismiss()
        self.hired = threads, buffers
        names = [f"peer_{name}" for name in self.args.peers.split(",") if name]
        workers = {name: Peer(name, threads, buffers) for name in names}
        for name, worker in workers.items():
            error = worker.answer().get("error")
            if error is None:
                self.workers[name] = worker
                self.versions |= worker.ask("versions")
            else:
                self.left_out[name.removeprefix("peer_")] = error

    def dismiss(self):
        for worker in self.workers.values():
            worker.end()
        self.workers = {}

    def batch(self, folder, start, size, dtype, objective):
        """A file; the last one again where that is the same."""
        import batch as batches

        reference = objective == "grpo_entropy_kl"
        key, file = (start, size, dtype, reference), folder / "batch.safetensors"
        if self.made != key:
            numbers = [int(n) for n in size.lower().split("x")]
            if start == "logits":
                batches.logits(file, *numbers, dtype, reference)
            else:
                {"logp": batches.logp, "hidden": batches.hidden}[start](file, *numbers)
            self.made = key
        return file

    def run(self):
        with tempfile.TemporaryDirectory() as folder:
            for job in jobs(self.args):
                begin = time.perf_counter()
                self.compare(Path(folder), *job)
                print(f"{time.perf_counter() - begin:.1f} s", file=sys.stderr)
        self.dismiss()

    def compare(self, folder, table, start, size, dtype, objective, threads, buffers):
        """One objective on one batch, with one number of threads."""
        entry = {"table": table, "start": start, "size": size, "dtype": dtype, "objective": objective}
        entry |= {"threads": threads, "buffers": buffers}
        file, expected = self.batch(folder, start, size, dtype, objective), folder / "expected.safetensors"
        ours = Rlc(self.args, objective, file, threads, buffers)
        ours.reference(expected)
        self.hire(threads, buffers)
        tolerance, share = TOLERANCE[dtype]
        entry["agreement"], contenders = {}, {"rlc": lambda seconds: ours.turn(seconds)}
        for worker in self.workers.values():
            found = worker.ask(
                "prepare",
                objective=objective,
                file=str(file),
                expected=str(expected),
                tolerance=tolerance,
                share=share,
                memory=start == "hidden",
            )
            for name, numbers in found.items():
                if "left_out" in numbers:
                    self.left_out[f"{name} ({objective}, {size} {dtype})"] = numbers["left_out"]
                    continue
                entry["agreement"][name] = numbers
                contenders[name] = lambda s, w=worker, n=name: w.ask("turn", name=n, seconds=s)
        entry["times"] = self.take_turns(contenders, f"{objective}, {size} {dtype}, {threads} threads")
        entry["rlc"] = ours.last
        self.results.append(entry)
        print(report.row(entry), flush=True)

    def take_turns(self, contenders, what):
        """A B C, A B C, ...: whatever else the machine does falls on all of them."""
        turns = {name: [] for name in contenders}
        for turn in range(self.args.rounds):
            for name, contender in contenders.items():
                print(f"{what}, round {turn + 1}: {name}", file=sys.stderr)
                turns[name].append(contender(self.args.seconds))
        return {
            name: {
                "median": statistics.median(t["median"] for t in own),
                "min": min(t["min"] for t in own),
                "turns": [t["median"] for t in own],
            }
            for name, own in turns.items()
        }


def main():
    args = arguments()
    begin = time.perf_counter()
    bench = Bench(args)
    bench.run()
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "versions": bench.versions,
        "left_out": bench.left_out,
        "load_at_the_end": os.getloadavg(),
        "arguments": {k: v for k, v in vars(args).items() if k not in ("rlc", "out", "write")},
        "results": bench.results,
    }
    if args.all:
        found["alone"] = alone(args)
    found["minutes"] = (time.perf_counter() - begin) / 60
    Path(args.out + ".json").write_text(json.dumps(found, indent=1) + "\n")
    text = report.whole(found)
    Path(args.out + ".md").write_text(text)
    print("\n" + text)
    if args.write:
        report.splice(Path(args.write), found)


if __name__ == "__main__":
    main()
