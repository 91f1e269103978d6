"""The report of the benchmarks: a page of tables, and plots, from the numbers of a run.

    python dev.py bench report [FOLDER]

Writes README.md and the pictures anew from the results.json that stands in the folder.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import figures
import numpy as np
from candidates import OURS
from common import Array, geometric_mean, interval
from figures import MEGABYTE, Results, Roof, cells, fastest_peer, median, ratio, share
from measuring import Row
from plots import PICTURES, draw
from startup import Start
from workloads import SIZES, WORKLOADS, named

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"


def save(results: Results, folder: Path) -> None:
    """The numbers, the page and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(results), indent=1)
    (folder / "results.json").write_text(text + "\n", "utf-8")
    pictures = draw(results, folder)
    (folder / "README.md").write_text(page(results, pictures), "utf-8")
    if results.profiles:
        (folder / "profiles.md").write_text(profiles(results), "utf-8")


def load(folder: Path) -> Results:
    """The numbers of an earlier run."""
    found = json.loads((folder / "results.json").read_text("utf-8"))
    found["rows"] = [Row(**row) for row in found["rows"]]
    found["starts"] = [Start(**row) for row in found["starts"]]
    for name, roof in found.get("roofs", {}).items():
        kernels = [tuple(kernel) for kernel in roof["kernels"]]
        found["roofs"][name] = Roof(**{**roof, "kernels": kernels})
    return Results(**found)


def page(results: Results, pictures: Sequence[str] = ()) -> str:
    """The report in Markdown."""
    parts = [
        _head(results), _goals(results), _means(results), _roofs(results),
        *(_measured(results, "training", threads) for threads in _threads(results, "training")),
        _speed_ups(results),
        *(_measured(results, "inference", threads) for threads in _threads(results, "inference")),
        _starts(results), _scaling(results), _notes(results), METHOD,
    ]  # fmt: skip
    text = "\n\n".join(part for part in parts if part) + "\n"
    for name in PICTURES:
        picture = f"![{name}]({name}.png)\n\n" if f"{name}.png" in pictures else ""
        text = text.replace(f"<{name}>\n\n", picture)
    return text


def profiles(results: Results) -> str:
    """Where the time of each of our steps goes, in Markdown."""
    parts = [
        "# Profiles\n\nWhere the time of our training steps goes, on one thread, as "
        "`chainrule profile W1` and so on show it; `chainrule profile --help` explains the columns."
    ]
    for name, text in results.profiles.items():
        parts.append(f"## {name}: {WORKLOADS[name].about}\n\n```\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ------------------------------------------------------------------------------ sections


def _head(results: Results) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in results.machine.items())
    busy = [row.busy / row.threads for row in results.rows if row.threads == 1]
    text = (
        "# Benchmarks\n\nMade by `python3 dev.py bench`; the numbers are in `results.json`. "
        "How it was measured is at the end.\n\n" + facts
    )
    if busy and statistics.median(busy) < 0.95:
        text += (
            f"\n\n**Other programs were busy: candidates got {statistics.median(busy):.0%} of a "
            "core. These figures say little.**"
        )
    return text


def _goals(results: Results) -> str:
    found = figures.goals(results)
    if not found:
        return ""
    rows = [
        (each.about, each.wanted, each.found, "yes" if each.met else "**no**") for each in found
    ]
    met = sum(each.met for each in found)
    return (
        f"## What was wanted\n\n{met} of {len(found)} are met. Ratios are the peer's time over "
        "ours.\n\n" + table(("", "wanted", "found", "met"), rows)
    )


def _means(results: Results) -> str:
    rows = []
    for kind, batches in (("training", (None,)), ("inference", (1, 64))):
        for batch in batches:
            for threads in _threads(results, kind):
                found = figures.against_peers(results.rows, kind, threads, batch)
                for peer, ratios in found.items():
                    mean = geometric_mean(each.median for each in ratios)
                    behind = sum(each.verdict == "behind" for each in ratios)
                    what = kind if batch is None else f"{kind}, batch {batch}"
                    name = "the fastest of each" if peer == "fastest" else peer
                    rows.append(
                        (what, str(threads), name, f"{mean:.2f}", str(len(ratios)), str(behind))
                    )
    if not rows:
        return ""
    head = ("", "threads", "peer", "peer / ours, geometric mean", "workloads", "behind on")
    return "## Means\n\n" + table(head, rows)


def _measured(results: Results, kind: str, threads: int) -> str:
    rows = []
    for (each, workload, batch, count), cell in cells(results.rows).items():
        if each == kind and count == threads:
            rows += list(_lines(workload, batch, cell))
    head = ["", "batch", "candidate", "ms (90%)", "GFLOP/s", "of peak", "CPU", "peer / ours (90%)"]
    head += ["ours is", "peak MB"] if kind == "training" else ["ours is"]
    if kind != "training":
        rows = [row[:-1] for row in rows]
    title = f"## {kind.capitalize()}, {threads} thread{'s' if threads > 1 else ''}"
    about = ""
    if threads == 1 and kind == "training":
        about = "\n\n<training>\n\n" + "\n".join(
            f"- {name}: {each.about}, batch {len(each.data()[0])}"
            for name, each in WORKLOADS.items()
        )
    elif threads == 1:
        about = "\n\n<inference>"
    return f"{title}{about}\n\n" + table(head, rows)


def _lines(workload: str, batch: int, cell: dict[str, Row]) -> Iterator[list[str]]:
    """A line per candidate; the fastest peer, and where we are behind, stand out."""
    best = fastest_peer(cell)
    for name, row in cell.items():
        low, high = (1e3 * each for each in interval(_array(row)))
        compared, verdict = "", ""
        if name != OURS and OURS in cell:
            found = ratio(row, cell[OURS])
            compared, verdict = str(found), found.verdict
            verdict = f"**{verdict}**" if verdict == "behind" else verdict
        yield [
            workload, str(batch), f"{name} (fastest peer)" if row is best else name,
            f"{_number(1e3 * median(row))} ({_number(low)}-{_number(high)})",
            f"{row.flops / median(row) / 1e9:.0f}", f"{share(row).median:.0%}",
            f"{row.busy / row.threads:.0%}", compared, verdict,
            f"{row.memory / MEGABYTE:.0f}" if row.memory else "",
        ]  # fmt: skip


def _roofs(results: Results) -> str:
    """How near our steps are to what one core can do."""
    if not results.roofs:
        return ""
    alone = [row for row in results.rows if row.threads == 1]
    ours = {r.workload: r for r in alone if (r.kind, r.candidate) == ("training", OURS)}
    bare = {r.workload: r for r in alone if r.kind == "products"}

    def cells_of(row: Row | None) -> tuple[str, str]:
        return ("", "") if row is None else (_number(1e3 * median(row)), f"{share(row).median:.0%}")

    rows = [
        (name, *cells_of(ours.get(name)), *cells_of(bare.get(name)), f"{roof.share:.0%}",
         f"{roof.of_peak:.0%}")
        for name, roof in results.roofs.items()
    ]  # fmt: skip
    head = (
        "", "our step, ms", "of peak", "libraries' products, ms", "of peak", "ours, of roof",
        "of peak at the roof",
    )  # fmt: skip
    return f"## Against what one core can do\n\n<roofline>\n\n{ROOF}\n\n{table(head, rows)}"


def _speed_ups(results: Results) -> str:
    found = figures.speed_ups(results.rows)
    if not found:
        return ""
    rows = [(name, str(each)) for name, each in found.items()]
    return "## Our two threads against our one\n\n" + table(("", "1 thread / 2 threads"), rows)


def _starts(results: Results) -> str:
    rows = []
    for row in results.starts:
        name = f"{row.candidate}, {row.cache} cache" if row.cache else row.candidate
        took = statistics.median(row.seconds)
        rows.append((f"first step of {row.workload}", name, f"{took:.2f} s"))
    alone = results.imports.get("python alone", 0.0)
    rows += [
        ("import", name, f"{1e3 * (took - alone):.0f} ms")
        for name, took in results.imports.items() if name != "python alone"
    ]  # fmt: skip
    for about, found in (("", results.new_batch), (", planning alone", results.planning)):
        if found:
            took = 1e3 * statistics.median(found)
            rows.append((f"first call of W1 at a new batch{about}", OURS, f"{took:.2f} ms"))
    if results.small_call:
        took = 1e6 * statistics.median(results.small_call)
        rows.append(("compiled x + y of 1 x 16", OURS, f"{took:.1f} us"))
    rows += [
        ("installed, with all that is required", name, f"{size / MEGABYTE:.0f} MB")
        for name, size in results.installed.items()
    ]
    if not rows:
        return ""
    return "## Start and size\n\n<start>\n\n" + table(("", "", ""), rows)


def _scaling(results: Results) -> str:
    parts = []
    found = cells(results.rows)
    for kind in SIZES:
        rows = []
        for (each, workload, _, threads), cell in found.items():
            if each == "scaling" and workload.startswith(f"{kind}:"):
                rows += [
                    [named(workload).about, workload.partition(":")[2], str(threads), *line[2:4],
                     *line[5:9]]
                    for line in _lines(workload, 0, cell)
                ]  # fmt: skip
        if rows:
            head = ("", kind, "threads", "candidate", "ms (90%)", "of peak", "CPU",
                    "peer / ours (90%)", "ours is")  # fmt: skip
            parts.append(f"### {kind.capitalize()}\n\n" + table(head, rows))
    return "\n\n".join(["## One size varied\n\n<scaling>", *parts]) if parts else ""


def _notes(results: Results) -> str:
    if not results.notes:
        return ""
    return "## Left out\n\n" + "\n".join(f"- {note}" for note in results.notes)


ROOF = """The least time of a kernel is that of its operations at the FMA peak, or of its bytes at
the pace of memory, whichever is longer. In the picture each disc is a kernel of our training step
on one thread, as large as its time; those above the line found their data in the core's caches. "Of
roof" is what the least times are of the time taken; beside it stands the share of the peak that the
step would have if each kernel took its least. Kernel by kernel it is in [profiles](profiles.md).

What such a core gives in practice is seen in the libraries under PyTorch, MKL and oneDNN: beside
our whole step stands what they take for its matrix products and convolutions alone, one after the
other, without bias, activation, norm, attention, loss or update (`dev.py bench products`)."""

METHOD = """## How it was measured

Every candidate lives in a process of its own, kept on as many cores as it has threads, the same
cores for all. They take turns: a turn is as many steps as last about 20 ms, one after the other as
in a loop of training, and the next turn begins when the helper threads of the last are quiet. Some
steps before them, one at least, do not count: they wake the threads up and find the other
candidates' data in the caches. A step of training is forward, loss, backward and update, and hands
the loss to Python; float32, the same weights at the start, and the first results are compared. So
that what else the machine does falls on all of them, a ratio is the peer's time over ours in the
same round; above 1, ours is faster. Its interval holds 90% of the medians of resampled rounds:
where it holds 1, "ours is" even.

- ms: the median of the rounds, with an interval of the same kind.
- of peak: products and sums of the matrix products, per second and thread, over what one core
  computes that does nothing but fused products and sums: one more process in the same turns, its
  turn paired with the candidate's of the same round, since the clock of a core is not constant.
- CPU: processor time per second and thread. Far under 100%, other programs had the core.
- peak MB: the most memory that the process had at once (VmHWM of Linux, elsewhere ru_maxrss), with
  Python, the library, the making of the step, and what it keeps.
- torch is eager PyTorch with its default optimizer, torch fused with the fused one; channels_last
  has the fused one too. JAX is plain, jitted, its buffers donated, images NHWC; it is kept on as
  many cores as it may have threads, since it has no switch for them. onnxruntime has all its
  optimisations on, input and output bound once. PyTorch predicts under inference_mode.
- First step: from the start of the process to the end of W1's or W4's first training step, each in
  new processes, with the library's own choice of threads; the peers read their weights from a file.
  Cold is with an empty cache of kernels.
- Installed: files of the packages and of all they require, from pip's records."""


# ------------------------------------------------------------------------------ small helpers


def _threads(results: Results, kind: str) -> list[int]:
    return sorted({row.threads for row in results.rows if row.kind == kind})


def _array(row: Row) -> Array:
    return np.array(row.seconds)


def _number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}" if value >= 1 else f"{value:.3f}"


def main() -> int:
    """Write the report anew."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    save(load(folder), folder)
    print(folder / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
