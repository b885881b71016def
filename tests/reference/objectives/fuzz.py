"""Random batches for the published objectives and the small programs, compared as in check.py.

    python fuzz.py RLC [--seconds 60] [--seed 0] [--backend interp|cpu] [--keep FOLDER]

--keep writes each failing batch with its seed, to be looked at.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file

from batches import random_batch
from check import compare, legal_cuts, run_rlc
from programs import PROGRAMS
from published import OBJECTIVES, published
from table import Table

# Programs whose batch can be drawn again.
REDRAWN = [c for c in PROGRAMS if c.source is not None and c.batch.again]

SETTINGS = {
    "clip_low": lambda rng: round(float(rng.uniform(0.02, 0.5)), 3),
    "clip_high": lambda rng: round(float(rng.uniform(0.02, 0.5)), 3),
    "beta": lambda rng: float(rng.choice([0, 0.01, 0.3])),
    "temperature": lambda rng: float(rng.choice([0.5, 0.8, 1.0, 1.6])),
    "max_tokens": lambda rng: int(rng.integers(1, 600)),
    "ratio_max": lambda rng: round(float(rng.uniform(0.5, 6)), 3),
    "tau_pos": lambda rng: round(float(rng.uniform(0.3, 4)), 3),
    "tau_neg": lambda rng: round(float(rng.uniform(0.3, 4)), 3),
    "lam": lambda rng: round(float(rng.uniform(0.3, 2)), 3),
}


def draw_program(seed):
    """(case, batch) of one seed."""
    rng = np.random.default_rng(seed)
    case = REDRAWN[int(rng.integers(len(REDRAWN)))]
    batch = case.batch.again(
        seed,
        groups=rng.integers(1, 5, rng.integers(1, 5)).tolist(),
        max_len=int(rng.integers(2, 10)),
        empty_turns=bool(rng.random() < 0.4),
        equal_group=int(rng.integers(0, 9)) if rng.random() < 0.3 else None,
        masked_rollout=bool(rng.random() < 0.5),
        wild=float(rng.choice([0, 0.1])),
        column_dtype=rng.choice([np.float32, np.float64]),
    )
    return case, batch


def draw(seed):
    """(objective, settings, batch) of one seed."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(sorted(OBJECTIVES)))
    groups = rng.integers(1, 6, rng.integers(1, 7)).tolist()
    with_logits = bool(rng.random() < 0.4)
    batch = random_batch(
        seed,
        groups=groups,
        vocab=int(rng.integers(2, 40)) if with_logits else None,
        max_len=int(rng.integers(2, 16)),
        empty_turns=bool(rng.random() < 0.4),
        equal_group=int(rng.integers(0, 9)) if rng.random() < 0.5 else None,
        masked_rollout=bool(rng.random() < 0.5),
        mask=bool(rng.random() < 0.8),
        spread=float(rng.choice([0.001, 0.05, 0.3, 1.0])),
        wild=float(rng.choice([0, 0.05, 0.4])),
        logits_dtype=rng.choice([np.float32, np.float64]),
        column_dtype=rng.choice([np.float32, np.float64]),
        inf_logits=with_logits and bool(rng.random() < 0.3),
    )
    known = {"beta", *(["temperature"] if with_logits else [])}
    known |= {
        "cispo": {"ratio_max"}, "sapo": {"tau_pos", "tau_neg"}, "sft": set(), "dr_grpo": {"max_tokens"},
        "calibadv": {"lam"},
    }.get(name, set())
    if name not in ("cispo", "sapo", "sft"):
        known |= {"clip_low", "clip_high"}
    if name == "sft":
        known.discard("beta")
    settings = {k: SETTINGS[k](rng) for k in sorted(known) if rng.random() < 0.4}
    return name, settings, batch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rlc")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", action="append", choices=["interp", "cpu", "cuda"])
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    end, seed, failed = time.monotonic() + args.seconds, args.seed, 0
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            if seed % 2:
                source, batch = draw_program(seed)
                name, settings = source.name, source.settings
                answer = source.reference(Table(batch), settings)
                program = folder / "program.rl"
                program.write_text(source.source)
                for file, text in source.files.items():
                    (folder / file).write_text(text)
            else:
                name, settings, batch = draw(seed)
                answer = published(name, Table(batch), settings)
                program = name
            failed += run(args, seed, name, program, settings, batch, answer, folder)
        seed += 1
    print(f"seeds {args.seed}..{seed - 1}: {failed} runs differ")
    raise SystemExit(1 if failed else 0)


def run(args, seed, name, program, settings, batch, answer, folder):
    """How many runs of one batch differ from its answer."""
    expected = answer.expected()
    case = {
        "loss": float(expected["loss"][0]), "metrics": answer.metrics, "coupling": answer.coupling,
        "kept": answer.kept(),
    }
    legal, _ = legal_cuts(answer.coupling, batch.group_size)
    cut, failed = int(np.random.default_rng(seed).choice(legal)), 0
    path = folder / "batch.safetensors"
    batch.save(path)
    for backend in args.backend or ["interp", "cpu"]:
        for n in (None, cut):
            code, result, arrays, stderr = run_rlc(
                args.rlc, program, path, backend, settings, sorted(answer.values), n)
            if code:
                faults = [f"exit {code}: {stderr.strip()[:400]}"]
            else:
                faults = compare(result, arrays, case, expected, backend, grad_floor=1e-6)
            if faults:
                failed += 1
                print(f"seed {seed} {name} {settings} {backend} micro-batch {n}")
                for fault in faults:
                    print("    " + fault)
                if args.keep:
                    keep = args.keep / f"{seed}_{name}"
                    keep.mkdir(parents=True, exist_ok=True)
                    batch.save(keep / "batch.safetensors")
                    save_file(expected, str(keep / "expected.safetensors"))
                    (keep / "case.json").write_text(json.dumps({**case, "program": name, "set": settings}))
    return failed


if __name__ == "__main__":
    main()
