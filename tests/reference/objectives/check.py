"""Runs an rlc binary over cases/ and prints what differs from the references.

    python check.py RLC [--backend interp|cpu] [--only SUBSTRING] [--whole] [--jobs N]

Every case runs whole and in every legal micro-batch size; one illegal size must be refused.
interp: gradients within 1e-9 of the largest entry; cpu: 1e-4.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import tempfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

CASES = pathlib.Path(__file__).parent / "cases"
TOLERANCE = {"interp": 1e-9, "cpu": 1e-4, "cuda": 1e-4}


def legal_cuts(coupling, group_size):
    """Micro-batch sizes that cut nothing the coupling level needs whole, and those that do."""
    rollouts = sum(group_size)
    if coupling == "batch":
        legal = [n for n in range(1, rollouts + 1) if n >= rollouts]
    elif coupling == "group":
        ends = set(np.cumsum(group_size).tolist())
        legal = [n for n in range(1, rollouts + 1) if all(k in ends for k in range(n, rollouts, n))]
    else:
        legal = list(range(1, rollouts + 1))
    return legal, [n for n in range(1, rollouts + 1) if n not in legal]


def group_sizes(batch):
    with safe_open(str(batch), framework="np") as file:
        return file.get_tensor("group/size").tolist()


def run_rlc(rlc, program, batch, backend, settings=None, emit=(), micro_batch=None):
    """(exit code, stdout object or None, arrays, stderr)"""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.safetensors"
        command = [rlc, "eval", str(program), "--batch", str(batch), "--backend", backend, "--json", "--out", str(out)]
        for name, value in (settings or {}).items():
            # A truth value is written as in JSON.
            command += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        if emit:
            command += ["--emit", ",".join(emit)]
        if micro_batch:
            command += ["--micro-batch", str(micro_batch)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            return done.returncode, None, {}, done.stderr
        return 0, json.loads(done.stdout), load_file(str(out)), done.stderr


def differ(got, want, tolerance, floor=0.0):
    """None, or how far two arrays are apart. NaN in `want` marks elements that are not compared."""
    got, want = np.asarray(got, np.float64).ravel(), np.asarray(want, np.float64).ravel()
    if got.shape != want.shape:
        return f"{got.size} numbers for {want.size}"
    seen = ~np.isnan(want)
    if not seen.any():
        return None
    same = got[seen] == want[seen]
    if same.all():
        return None
    error = np.where(same, 0, np.abs(got[seen] - np.where(same, 0, want[seen])))
    finite = want[seen][np.isfinite(want[seen])]
    scale = max(np.abs(finite).max(initial=0.0), floor)
    if not np.isfinite(got[seen]).all() or error.max() > tolerance * scale:
        k = np.flatnonzero(seen)[int(np.nanargmax(error))]
        return f"[{k}] {got[k]:.12g} for {want[k]:.12g} (scale {scale:.3g})"
    return None


def compare(result, arrays, case, expected, backend, grad_floor=0.0):
    """What differs. grad_floor: gradients below it may be rounding left over from an exact 0."""
    tolerance, faults = TOLERANCE[backend], []
    if backend != "interp":
        tolerance = max(tolerance, case.get("tolerance", 0))

    def note(what, found):
        if found:
            faults.append(f"{what}: {found}")

    note("loss", differ([result["loss"]], [case["loss"]], tolerance, floor=1.0))
    for name, value in case["metrics"].items():
        if name not in result["metrics"]:
            faults.append(f"metric {name}: absent")
        else:
            note(f"metric {name}", differ([result["metrics"][name]], [value], tolerance, floor=1.0))
    for name in result["metrics"]:
        if name not in case["metrics"]:
            faults.append(f"metric {name}: not expected")
    if result["coupling"] != case["coupling"]:
        faults.append(f"coupling: {result['coupling']} for {case['coupling']}")
    for level, count in case["kept"].items():
        if result["kept"].get(level) != count:
            faults.append(f"kept {level}: {result['kept'].get(level)} for {count}")
    for name, want in expected.items():
        if name == "loss":
            continue
        if name not in arrays:
            faults.append(f"{name}: absent")
        else:
            floor = grad_floor if name.startswith("grad/") else 1.0
            note(name, differ(arrays[name], want, tolerance, floor))
    return faults


def check(rlc, folder, backend, whole_only):
    case = json.loads((folder / "case.json").read_text())
    expected = load_file(str(folder / "expected.safetensors"))
    batch = folder / "batch.safetensors"
    program = folder / "program.rl" if case["program"] == "program.rl" else case["program"]
    legal, illegal = legal_cuts(case["coupling"], group_sizes(batch))
    faults, runs = [], 0
    for n in [None] + ([] if whole_only else legal):
        code, result, arrays, stderr = run_rlc(rlc, program, batch, backend, case["set"], case["emit"], n)
        runs += 1
        if code != 0:
            found = [f"exit {code}: {stderr.strip()[:600]}"]
        else:
            found = compare(result, arrays, case, expected, backend)
        faults += [f"{'whole' if n is None else f'micro-batch {n}'}: {f}" for f in found]
        if found:
            break
    if not faults and not whole_only:
        for n in illegal[:1]:
            code, *_ = run_rlc(rlc, program, batch, backend, case["set"], case["emit"], n)
            runs += 1
            if code == 0:
                faults.append(f"micro-batch {n}: accepted, though it cuts a {case['coupling']}")
    return case, runs, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rlc")
    parser.add_argument("--backend", action="append", choices=["interp", "cpu", "cuda"])
    parser.add_argument("--only", default="")
    parser.add_argument("--whole", action="store_true", help="no micro-batches")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    folders = sorted(f for f in CASES.iterdir() if args.only in f.name)
    failed = 0
    for backend in args.backend or ["interp", "cpu"]:
        runs = bad = 0
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            work = [pool.submit(check, args.rlc, f, backend, args.whole) for f in folders]
            for folder, job in zip(folders, work):
                case, count, faults = job.result()
                runs += count
                if faults:
                    bad += 1
                    print(f"{backend:6} {folder.name}{' (extra)' if case.get('extra') else ''}")
                    for fault in faults:
                        print("       " + fault.replace("\n", "\n       "))
        print(f"{backend}: {len(folders) - bad} of {len(folders)} cases, {runs} runs")
        failed += bad
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
