"""Results of peers.py as tables, and between the markers of a document.

    <!-- peers: logits -->
    ...the table...
    <!-- end -->

`python benches/report.py peers.json docs/benchmarks.md` puts results in that were measured before.
"""

import json
import re
import sys
from pathlib import Path

NAMES = ("torch eager", "torch.compile", "jax", "TRL", "verl", "Liger")
# Rows that agree less often are marked.
ALIKE = 0.995


def best(entry, name):
    """The fastest of a peer's ways ("torch.compile padded", "torch.compile packed") and its name."""
    found = [(times["median"], own) for own, times in entry["times"].items() if own.startswith(name)]
    return min(found)[1] if found else None


def milliseconds(seconds):
    ms = 1e3 * seconds
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def megabytes(count):
    return f"{count / 1e6:,.0f} MB"


def cell(entry, name):
    """Median (minimum), and how many times ours."""
    own = best(entry, name)
    if own is None:
        return "-"
    times, ours = entry["times"][own], entry["times"]["rlc"]["median"]
    text = f"{milliseconds(times['median'])} ({milliseconds(times['min'])}) {times['median'] / ours:.2f}x"
    layout = own.removeprefix(name).strip()
    text += f" {layout}" if layout else ""
    numbers = entry["agreement"][own]
    rows = [n["rows_agreeing"] for n in numbers.values() if isinstance(n, dict)]
    text += "*" if min(rows) < ALIKE else ""
    if "extra_memory" in numbers:
        text += f", {megabytes(numbers['extra_memory'])}"
    return text


def size_of(entry):
    numbers = " x ".join(f"{int(n):,}" for n in entry["size"].split("x"))
    return f"{numbers} {entry['dtype']}"


def row(entry):
    """A line of the table."""
    rlc, ours = entry["rlc"], entry["times"]["rlc"]
    own = f"{milliseconds(ours['median'])} ({milliseconds(ours['min'])})"
    if entry["start"] == "hidden":
        own += f", {megabytes(rlc['hidden']['extra'])}"
    floor = rlc["hidden"]["products"]["median"] if entry["start"] == "hidden" else rlc["floor"]
    start = [entry["objective"], size_of(entry), str(entry["threads"]), milliseconds(floor), own]
    return "| " + " | ".join(start + [cell(entry, name) for name in NAMES]) + " |"


def table(entries):
    """The rows of one table under a head; peers without a time in any are left out."""
    used = [name for name in NAMES if any(best(entry, name) for entry in entries)]
    floor = "bare products" if entries[0]["start"] == "hidden" else "floor"
    head = ["objective", "size", "threads", floor, "rlc", *used]
    skipped = [5 + i for i, name in enumerate(NAMES) if name not in used]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in entries:
        cells = row(entry).strip("| ").split(" | ")
        lines.append("| " + " | ".join(c for i, c in enumerate(cells) if i not in skipped) + " |")
    return "\n".join(lines)


def notes(found):
    """What the tables' marks mean, what was left out."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    processor = found["results"][0]["rlc"].get("processor")
    load = found["load_at_the_end"][0]
    copies = {}
    for rlc in (entry["rlc"] for entry in found["results"]):
        copies.setdefault(rlc["threads"], []).append(rlc["copy"]["used"])
    copied = ", ".join(f"{max(rates) / 1e9:.1f} GB/s with {n}" for n, rates in sorted(copies.items()))
    lines = [f"Measured {found['date']} in {found['minutes']:.0f} minutes, {processor}, load at the end {load:.1f}. {versions}."]
    lines.append(f"Fastest copies, read and written: {copied} thread(s).")
    lines += [f"Left out: {name}: {why}." for name, why in found["left_out"].items()]
    return "\n".join(lines)


def budgets(runs):
    """Ours from hidden states, under budgets."""
    head = ["objective", "tokens x width to vocab", "budget", "extra memory", "products", "pass", "pass / products"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for run in runs:
        hidden, time = run["hidden"], run["time"]["pass"]
        products = hidden["products"]
        cells = [
            run["objective"],
            f"{run['tokens']:,} x {hidden['width']} to {run['vocab']:,}",
            f"{hidden['share']:g} of the logits' {megabytes(hidden['logits'])}",
            f"{megabytes(hidden['extra'])}, {hidden['extra_ratio']:.3f}",
            f"{products['count']}: {milliseconds(products['median'])} ({milliseconds(products['min'])})",
            f"{milliseconds(time['median'])} ({milliseconds(time['min'])})",
            f"{hidden['ratio']:.2f} ({time['min'] / products['min']:.2f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def growth(found):
    """A line for each number that time is measured against."""
    lines = []
    for name in ("tokens", "vocab", "pieces"):
        series = found[name]
        points = series["points"]
        span = f"{points[0]['n']:,} to {points[-1]['n']:,} {name} ({series['fixed']})"
        if "seconds_per_logit" in series:
            least, most = (1e9 * s for s in series["seconds_per_logit"])
            lines.append(f"* {span}: time grows with the power {series['power']:.3f}; {least:.2f} to {most:.2f} ns a logit.")
        else:
            least, most = series["of_one_piece"]
            lines.append(f"* {span}: {least:.2f} to {most:.2f} times the time of one piece.")
    return "\n".join(lines)


def compiling(found):
    """The range over the library's objectives."""
    of = lambda part: [times[part]["median"] for times in found.values()]
    span = lambda part: f"{1e3 * min(of(part)):.2f} to {1e3 * max(of(part)):.2f} ms"
    return f"Over {len(found)} library objectives: `rlc check` {span('check')}, text to kernel {span('whole')}."


def tables(found):
    """Name and text of each table."""
    names = dict.fromkeys(entry["table"] for entry in found["results"])
    out = {name: table([e for e in found["results"] if e["table"] == name]) for name in names}
    if "alone" in found:
        ours = found["alone"]
        out |= {"budgets": budgets(ours["budgets"]), "growth": growth(ours["growth"])}
        out["compile"] = compiling(ours["compile"])
    return out


def whole(found):
    parts = [f"{name}\n\n{text}" for name, text in tables(found).items()]
    return "\n\n".join(parts) + "\n\n" + notes(found) + "\n"


def between(path, label, new):
    """Puts text between the markers of a label. Markers that are missing are an error."""
    text = path.read_text()
    place = re.compile(rf"(<!-- {label} -->\n).*?(<!-- end -->)", re.S)
    if not place.search(text):
        raise SystemExit(f"{path} has no `<!-- {label} -->` ... `<!-- end -->`")
    path.write_text(place.sub(lambda m: f"{m[1]}\n{new}\n\n{m[2]}", text))


def splice(path, found):
    """Puts each table between its markers."""
    for name, new in {**tables(found), "notes": notes(found)}.items():
        between(path, f"peers: {name}", new)


if __name__ == "__main__":
    splice(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text()))
