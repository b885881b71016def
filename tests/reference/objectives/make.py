"""Writes cases/: every published objective and every small program with its batch and its answer.

    python make.py            all cases
    python make.py NAME ...   only these

A case is a folder: `case.json` (program, --set, expected loss, metrics, coupling, kept counts),
`program.rl` unless the program is a stdlib name, `batch.safetensors`, and `expected.safetensors`
(float64; `loss`, `grad/<input>`, `value/<name>` with NaN at dropped elements).
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

from batches import random_batch
from programs import PROGRAMS, Case
from published import published
from table import Table

CASES = pathlib.Path(__file__).parent / "cases"


def objective_cases():
    """Every stdlib objective: logits, log-probs, f64, corners, and other settings."""
    objectives = ["grpo", "bnpo", "dapo", "dr_grpo", "gspo", "gspo_token", "cispo", "sapo", "gmpo", "rloo",
                  "reinforce_pp", "calibadv", "sft"]
    settings = {
        "grpo": [{"beta": 0.04}, {"clip_low": 0.05, "clip_high": 0.4}, {"temperature": 0.7}],
        "bnpo": [{"beta": 0.1}],
        "dapo": [{"clip_high": 0.05}],
        "dr_grpo": [{"max_tokens": 64, "beta": 0.01}],
        "gspo": [{"clip_low": 0.2, "clip_high": 0.3, "beta": 0.04}],
        "gspo_token": [{"clip_low": 0.1, "clip_high": 0.1, "beta": 0.04}],
        "cispo": [{"ratio_max": 1.1}, {"beta": 0.02}],
        "sapo": [{"tau_pos": 2.0, "tau_neg": 3.5}],
        "gmpo": [{"clip_low": 0.1, "clip_high": 0.2, "beta": 0.02}],
        "rloo": [{"beta": 0.0}, {"beta": 0.5, "clip_low": 0.6, "clip_high": 0.9}, {"normalize": True}],
        "reinforce_pp": [{"beta": 0.01}],
        "calibadv": [{"lam": 0.5}, {"temperature": 1.4}],
        "sft": [{"temperature": 0.7}],
    }
    for n, name in enumerate(objectives):
        seed = 1000 + 20 * n
        yield name, "logits", random_batch(seed, groups=(3, 1, 2, 3), vocab=9, max_len=6), {}
        yield name, "logp", random_batch(seed + 1, vocab=None, equal_group=2), {}
        yield name, "corners", random_batch(
            seed + 2, groups=(1, 4, 2, 1, 3), vocab=None, empty_turns=True, wild=0.35), {}
        for k, values in enumerate(settings[name]):
            batch = random_batch(seed + 3 + k, groups=(3, 2, 3), vocab=7 if "temperature" in values else None)
            yield name, "set" + (str(k + 1) if k else ""), batch, values
    yield "grpo", "logits_f64", random_batch(
        1900, groups=(2, 3), vocab=40, max_len=4, logits_dtype=np.float64, column_dtype=np.float64), {}
    yield "gspo", "logits_f64", random_batch(
        1901, groups=(2, 3), vocab=21, max_len=4, logits_dtype=np.float64, column_dtype=np.float64), {}
    yield "grpo", "logits_bf16", random_batch(1903, groups=(2, 3), vocab=9).narrow("vocab/logits", torch.bfloat16), {}
    yield "dapo", "logits_f16", random_batch(1904, groups=(2, 3), vocab=9).narrow("vocab/logits", torch.float16), {}
    yield "dapo", "inf_logits", random_batch(1902, groups=(2, 3), vocab=12, inf_logits=True), {"temperature": 1.2}


def all_cases():
    for name, kind, batch, values in objective_cases():
        case = Case(f"{name}_{kind}", None, batch, None, values, program=name)
        yield case
    yield from PROGRAMS


def write(case):
    folder = CASES / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table = Table(case.batch)
    if case.reference is None:
        answer = published(case.program, table, case.settings)
    else:
        answer = case.reference(table, case.settings)
    expected = answer.expected()
    for name, values in expected.items():
        if not name.startswith("value/"):
            assert np.isfinite(values).all(), (case.name, name)
    case.batch.save(folder / "batch.safetensors")
    save_file(expected, str(folder / "expected.safetensors"))
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    if case.source is not None:
        (folder / "program.rl").write_text(case.source)
    for file, text in case.files.items():
        (folder / file).write_text(text)
    description = {
        "program": case.program or "program.rl",
        "set": case.settings,
        "loss": float(expected["loss"][0]),
        "metrics": answer.metrics,
        "coupling": answer.coupling,
        "kept": answer.kept(),
        "emit": sorted(answer.values),
    }
    if case.extra:
        description["extra"] = True
    (folder / "case.json").write_text(json.dumps(description, indent=1) + "\n")


def main():
    wanted = set(sys.argv[1:])
    cases = list(all_cases())
    names = [c.name for c in cases]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    if not wanted:
        shutil.rmtree(CASES, ignore_errors=True)
    for case in cases:
        if not wanted or case.name in wanted:
            write(case)
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
