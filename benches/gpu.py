"""Passes from logits to loss and gradient on a GPU: `rlc bench --device cuda` beside torch and Liger's Triton kernel, on the
same batch, by CUDA events, medians.

    python gpu.py RLC FOLDER [--tokens 16384] [--vocab 151936] [--passes 20]

Writes gpu.json and gpu.md into FOLDER. Run by scripts/gpu.sh; nothing here has run on a GPU yet.
"""

import argparse
import json
import pathlib
import subprocess
import traceback

import batch as batches
import peer_torch
import torch

PROGRAMS = pathlib.Path(__file__).parent / "programs"
# Name of the row, program, settings, what torch calls the same loss.
WORK = [
    ("grpo", "grpo", {}, "grpo"),
    ("grpo, entropy", str(PROGRAMS / "grpo_entropy.rl"), {}, "grpo_entropy"),
    ("grpo, entropy, k3", str(PROGRAMS / "grpo_entropy.rl"), {"beta": 0.04}, None),
    ("gspo", "gspo", {}, "gspo"),
]


def make(path, tokens, vocab, rollouts=8):
    """A batch of bf16 logits of deviation 2, drawn on the GPU."""
    torch.manual_seed(0)
    new = torch.empty(tokens, vocab, dtype=torch.bfloat16)
    for first in range(0, tokens, 256):
        part = new[first : first + 256]
        part.copy_(2 * torch.randn(part.shape, device="cuda"))
    random = torch.Generator().manual_seed(0)
    arrays = batches._columns(lambda part: new[part], tokens, vocab, random, rollouts)
    arrays["token/ref_logp"] = arrays["token/old_logp"] + 0.1 * torch.randn(tokens, generator=random)
    arrays["vocab/logits"] = new
    batches.save_file(arrays, path)


def timed(step, passes):
    """Seconds of the median pass, after three that warm up."""
    times = []
    for n in range(passes + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize()
        if n >= 3:
            times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def liger(batch, passes):
    """Its loss from logits, which writes the gradient over them: they are put back between passes."""
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    padded = batch.padded
    logits = padded("vocab/logits")
    # It reads a row more per rollout than there are actions.
    whole = torch.cat([logits, logits[:, :1]], 1).detach()
    action, mask = padded("token/action"), padded("token/mask").float()
    old, advantage = padded("token/old_logp"), batch.advantage()

    def step():
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
        return begin.elapsed_time(end) / 1e3, loss.item()

    times = [step() for _ in range(passes + 3)][3:]
    return sorted(t for t, _ in times)[len(times) // 2], times[0][1]


def ours(rlc, program, settings, path):
    command = [rlc, "bench", program, "--batch", str(path), "--device", "cuda", "--json"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rlc")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--passes", type=int, default=20)
    args = parser.parse_args()
    path = args.folder / "batch.safetensors"
    make(path, args.tokens, args.vocab)
    rows, faults = [], []

    def note(work, who, measure):
        try:
            rows.append({"work": work, "who": who} | measure())
        except Exception as why:
            traceback.print_exc()
            faults.append(f"{who}, {work}: {str(why).splitlines()[0] if str(why) else type(why).__name__}")
        torch.cuda.empty_cache()

    for name, program, settings, _ in WORK:
        def measure(program=program, settings=settings):
            found = ours(args.rlc, program, settings, path)
            return {"seconds": found["time"]["live"]["median"], "loss": found["loss"], "rlc": found}

        note(name, "rlc", measure)
    batch = batches.Batch(path)
    batch.arrays = {name: array.cuda() for name, array in batch.arrays.items()}
    batch.inside = batch.inside.cuda()
    for name, _, _, loss in WORK:
        if loss is None:
            continue
        for who, make_step in peer_torch.contenders(loss, batch):
            def measure(make_step=make_step):
                step = make_step()
                return {"seconds": timed(step, args.passes), "loss": step()[0].item()}

            note(name, who, measure)
    note("grpo", "Liger's Triton kernel", lambda: dict(zip(("seconds", "loss"), liger(batch, args.passes))))
    path.unlink()

    size = {"tokens": args.tokens, "vocab": args.vocab, "dtype": "bf16", "gpu": torch.cuda.get_device_name()}
    result = size | {"torch": torch.__version__, "rows": rows, "left_out": faults}
    (args.folder / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [f"{args.tokens:,} tokens of {args.vocab:,} bf16 logits on {size['gpu']}, torch {torch.__version__}", ""]
    lines += ["| work | who | ms | times the floor | loss |", "|---|---|---:|---:|---:|"]
    floors = {row["work"]: row["rlc"]["floor"] for row in rows if "rlc" in row}
    for row in rows:
        floor = floors.get(row["work"])
        times = f"{row['seconds'] / floor:.2f}" if floor else ""
        lines.append(f"| {row['work']} | {row['who']} | {1e3 * row['seconds']:.2f} | {times} | {row['loss']:.6f} |")
    lines += [""] + [f"Left out: {fault}" for fault in faults]
    (args.folder / "gpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    raise SystemExit(1 if any(fault.startswith("rlc") for fault in faults) else 0)


if __name__ == "__main__":
    main()
