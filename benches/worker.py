"""One peer in a process of its own, on as many cores as it may use: `worker.py PEER THREADS`.

Reads a JSON object a line from stdin and answers with one. `prepare` makes the contenders of an objective and compares
their loss and gradients with ours, `turn` runs one of them for a while, `versions` says what is installed.
"""

import ctypes
import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path


def pin(threads):
    """Before anything starts threads of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)
    eigen = "false" if threads == 1 else "true"
    flags = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    os.environ["XLA_FLAGS"] = flags
    os.environ["JAX_PLATFORMS"] = "cpu"


def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def extra_memory(step):
    """Bytes that a pass needs at its peak beyond its gradients. Memory that is kept is given back before."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS:")
    loss, gradients = step()
    grown = 1024 * (kilobytes("VmHWM:") - before)
    kept = sum(g.nbytes for g in gradients.values())
    return max(0, grown - kept)


def disagreement(loss, gradients, batch, expected, tolerance, share):
    """How far a peer is from us, and what is wrong with that, if anything. A row is a token, or an entry's weights."""
    import numpy as np
    import torch

    numbers = {"loss": loss, "loss_difference": abs(loss - float(expected["loss"]))}
    wrong = numbers["loss_difference"] > tolerance * (1 + abs(float(expected["loss"])))
    for name, gradient in gradients.items():
        reference = expected[f"grad/{name}"]
        if not isinstance(gradient, torch.Tensor):
            gradient = torch.from_numpy(np.array(gradient, dtype=np.float32))
        if gradient.shape != reference.shape:
            gradient = batch.packed(gradient)
        gradient, reference = gradient.reshape(len(reference), -1), reference.reshape(len(reference), -1)
        largest, worst = reference.abs().max(), []
        for first in range(0, len(reference), 256):
            part = slice(first, first + 256)
            worst.append((gradient[part].float() - reference[part].float()).abs().amax(-1) / largest)
        worst = torch.cat(worst)
        agreeing = (worst <= tolerance).float().mean().item()
        numbers[name] = {"difference": worst.max().item(), "rows_agreeing": agreeing}
        # Not a number is in no row.
        wrong |= not agreeing >= share
    return numbers, wrong


class Worker:
    def __init__(self, peer, threads):
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.peer, self.steps = importlib.import_module(peer), {}

    def versions(self, _):
        return self.peer.versions()

    def prepare(self, ask):
        import torch
        from safetensors.torch import load_file

        import batch as batches

        self.steps = {}
        torch._dynamo.reset()
        batch = batches.Batch(ask["file"])
        answer = {}
        if ask["objective"] not in self.peer.OBJECTIVES.get(batch.start, ()):
            return answer
        expected = load_file(ask["expected"])
        for name, make in self.peer.contenders(ask["objective"], batch):
            try:
                step = make()
                loss, gradients = step()
                numbers, wrong = disagreement(
                    loss.item(), gradients, batch, expected, ask["tolerance"], ask["share"]
                )
                del loss, gradients
                if wrong:
                    answer[name] = {"left_out": f"does not agree: {numbers}"}
                    continue
                if ask["memory"]:
                    numbers["extra_memory"] = extra_memory(step)
                answer[name] = numbers
                self.steps[name] = step
            except Exception as why:
                answer[name] = {"left_out": (str(why) or type(why).__name__).splitlines()[0]}
        return answer

    def turn(self, ask):
        """Median and minimum of the passes that fit into some seconds, after one; of one that takes longer."""
        step = self.steps[ask["name"]]
        begin = time.perf_counter()
        step()
        first = time.perf_counter() - begin
        if first > ask["seconds"]:
            # Too much memory for a warm cache to matter; `prepare` has run it before.
            return {"median": first, "min": first}
        times, begin = [], time.perf_counter()
        while not times or time.perf_counter() - begin < ask["seconds"]:
            start = time.perf_counter()
            out = step()
            # Freeing the gradient belongs to the pass.
            del out
            times.append(time.perf_counter() - start)
        return {"median": statistics.median(times), "min": min(times)}


def main():
    peer, threads = sys.argv[1], int(sys.argv[2])
    pin(threads)
    # What libraries print is not an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        worker = Worker(peer, threads)
    except Exception as why:
        print(json.dumps({"error": f"not installed: {why}"}), file=answers)
        return
    print(json.dumps({}), file=answers)
    for line in sys.stdin:
        ask = json.loads(line)
        print(json.dumps(getattr(worker, ask["do"])(ask)), file=answers)


if __name__ == "__main__":
    main()
