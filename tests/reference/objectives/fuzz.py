"""Random batches for every published objective, compared as in check.py. Nothing is kept.

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
from published import OBJECTIVES, published
from table import Table

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
        name, settings, batch = draw(seed)
        answer = published(name, Table(batch), settings)
        expected = answer.expected()
        case = {
            "loss": float(expected["loss"][0]), "metrics": answer.metrics, "coupling": answer.coupling,
            "kept": answer.kept(),
        }
        legal, _ = legal_cuts(answer.coupling, batch.group_size)
        cut = int(np.random.default_rng(seed).choice(legal))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "batch.safetensors"
            batch.save(path)
            for backend in args.backend or ["interp", "cpu"]:
                for n in (None, cut):
                    code, result, arrays, stderr = run_rlc(
                        args.rlc, name, path, backend, settings, sorted(answer.values), n)
                    if code:
                        faults = [f"exit {code}: {stderr.strip()[:400]}"]
                    else:
                        faults = compare(result, arrays, case, expected, backend, n)
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
        seed += 1
    print(f"seeds {args.seed}..{seed - 1}: {failed} runs differ")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
