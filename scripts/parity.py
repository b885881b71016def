"""What `parity_trl.py` and `parity_verl.py` share: a batch, our answer, and the table.

A batch is random, ragged and in float64: 6 groups of 4 rollouts of up to 9 tokens, tool output inside some of them,
ratios far from 1, one group whose rewards are all equal. Both sides get the same numbers; theirs padded.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benches"), str(ROOT / "tests" / "reference" / "objectives")]

from batch import Batch  # noqa: E402
from check import run_rlc  # noqa: E402
from report import between  # noqa: E402

TOLERANCE = 1e-9
# A difference that is there must be seen: below this the two are the same.
SEEN = 1e-6
GROUPS, GROUP = 6, 4


def arrays(seed, spread=0.4, prompt_groups=GROUPS, group=GROUP):
    """The columns of a batch."""
    rng = np.random.default_rng(seed)
    rollouts = prompt_groups * group
    size = rng.integers(2, 10, rollouts)
    tokens = int(size.sum())
    ends = np.cumsum(size)
    # Tool output never ends a rollout: theirs place the reward on its last token.
    mask = rng.random(tokens) < 0.85
    mask[ends - 1] = True
    logp = -0.05 - rng.gamma(1.2, 0.9, tokens)
    old = np.minimum(logp - rng.normal(0, spread, tokens), -0.01)
    sampler = np.minimum(old + rng.normal(0, 0.3, tokens) * (rng.random(tokens) < 0.5), -0.005)
    reward = rng.choice([0.0, 0.25, 0.6, 1.0], rollouts)
    reward[:group] = 0.25
    return {
        "group/size": np.full(prompt_groups, group, np.int64),
        "rollout/size": size.astype(np.int64),
        "rollout/reward": reward,
        "rollout/greedy": rng.choice([0.0, 0.5], rollouts),
        "rollout/is_chosen": np.arange(rollouts) % 2 == 0,
        "rollout/pair_id": np.arange(rollouts, dtype=np.int64) // 2,
        "rollout/mismatched_log_ratio": rng.normal(0.3, 1, rollouts),
        "group/v_star": rng.random(prompt_groups),
        "token/mask": mask,
        "token/logp": logp,
        "token/entropy": rng.gamma(2, 0.5, tokens),
        "token/old_logp": old,
        "token/ref_logp": np.minimum(logp + rng.normal(0, 0.5, tokens), -0.01),
        "token/sampler_logp": sampler,
        "token/value": rng.normal(0, 1, tokens),
        "token/old_value": rng.normal(0, 1, tokens),
        "token/sum_pi_squared": rng.uniform(0.05, 0.9, tokens),
        "batch/seed": np.asarray([5], np.int64),
    }


def with_logits(columns, seed, vocab=13):
    """The same with logits in place of log-probs."""
    rng = np.random.default_rng(seed)
    tokens = len(columns["token/logp"])
    out = {k: v for k, v in columns.items() if k not in ("token/logp", "token/entropy")}
    out["vocab/logits"] = rng.normal(0, 2, (tokens, vocab))
    out["vocab/ref_logits"] = out["vocab/logits"] + rng.normal(0, 0.7, (tokens, vocab))
    out["token/action"] = rng.integers(0, vocab, tokens)
    return out


class Table:
    """Runs both sides of every row and keeps what came out."""

    def __init__(self, rlc, title):
        self.rlc, self.title, self.rows, self.wrong = rlc, title, [], 0
        self.folder = tempfile.TemporaryDirectory()

    def batch(self, columns):
        """A file for us, padded tensors for them."""
        path = pathlib.Path(self.folder.name) / f"{len(list(pathlib.Path(self.folder.name).iterdir()))}.safetensors"
        save_file({k: np.ascontiguousarray(v.astype(np.uint8) if v.dtype == bool else v) for k, v in columns.items()}, str(path))
        batch = Batch(str(path))
        batch.path = path
        return batch

    def ours(self, program, batch, settings=None, emit=()):
        """(loss, gradients, values): `program` is a library name or the text of a file."""
        if "\n" in program or " " in program:
            path = pathlib.Path(self.folder.name) / "program.rl"
            path.write_text(program + "\n")
            program = path
        code, result, found, errors = run_rlc(self.rlc, program, batch.path, "interp", settings, emit)
        if code:
            raise SystemExit(f"{program}: {errors}")
        grads = {k.split("/")[1]: torch.from_numpy(v.copy()) for k, v in found.items() if k.startswith("grad/")}
        values = {k.split("/")[1]: torch.from_numpy(v.copy()) for k, v in found.items() if k.startswith("value/")}
        return result["loss"], grads, values

    def row(self, name, options, theirs, program, batch, step, settings=None, differs="", near=None):
        """`step()` gives their loss and {leaf: padded gradient}. `differs`: why it must differ. `near`:
        (a wider tolerance, why)."""
        tolerance, why = near or (TOLERANCE, "")
        loss, grads, _ = self.ours(program, batch, settings)
        their_loss, their_grads = step()
        gap = abs(loss - float(their_loss.detach())) / max(1.0, abs(loss))
        for leaf, grad in their_grads.items():
            mine = grads[leaf]
            gap = max(gap, float((mine - batch.packed(grad)).abs().max() / max(float(mine.abs().max()), 1e-12)))
        good = gap > SEEN if differs else gap < tolerance
        self.wrong += not good
        equal = f"equal to {tolerance:.0e}: {why}" if near else "equal"
        verdict = (f"differs: {differs}" if differs else equal) if good else f"WRONG, expected {'a difference' if differs else 'the same'}"
        self.rows.append((f"`{name}`", options, theirs, f"{gap:.1e}", verdict))

    def report(self, document=None):
        """Prints the table, or puts it between a document's markers `<!-- parity: trl -->` and `<!-- end -->`."""
        lines = [f"| here | options | {self.title} | max difference | |", "|---|---|---|---|---|"]
        text = "\n".join(lines + ["| " + " | ".join(row) + " |" for row in self.rows])
        print(text)
        print(f"\n{len(self.rows)} rows, {self.wrong} not as expected; tolerance {TOLERANCE} of the largest gradient where no other is said")
        if self.wrong:
            raise SystemExit(1)
        if document:
            between(pathlib.Path(document), f"parity: {self.title.split()[0].lower()}", text)


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rlc", required=True, help="an rlc binary")
    parser.add_argument("--write", help="a document that gets the table between its markers, where all is as expected")
    return parser.parse_args()


def gradients(loss, leaves):
    """{leaf: gradient}, zeros where the loss does not read it."""
    names = [n for n, x in leaves.items() if x is not None]
    found = torch.autograd.grad(loss, [leaves[n] for n in names], allow_unused=True)
    return {n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(names, found)}
