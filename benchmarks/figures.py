"""What the measurements say: paired ratios, means of them, and what was wanted against what is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from candidates import EAGER, ONNX, OURS
from common import Array, geometric_mean, interval
from measuring import Row
from startup import Start

MEGABYTE = 2**20


@dataclass(frozen=True)
class Roof:
    """A step against the roofline model (see ``cr.profile``).

    Attributes:
        peak: operations per second of one core that does nothing else.
        memory: bytes per second that one core moves beyond its own caches.
        share: of the step's time in kernels, what their least times are.
        of_peak: the step's share of the peak if each kernel took its least time.
        kernels: phase, seconds, operations and bytes of each.
    """

    peak: float
    memory: float
    share: float
    of_peak: float
    kernels: list[tuple[str, float, float, float]]


@dataclass
class Results:
    """Everything that a run found; as JSON it is the file beside the report.

    Attributes:
        machine: facts about processor, system, versions and the run, in the order of printing.
        rows, starts: what was measured.
        new_batch, planning: seconds of W1's first call at a new batch, and of the planning in it.
        small_call: seconds of a compiled sum of two arrays of 1 x 16.
        imports: seconds of Python's start, alone and with imports.
        installed: bytes on disk with all that is required.
        profiles: where the time of our steps goes, by workload, as text.
        roofs: the same steps against the most that one core can do.
        notes: who could not take part.
    """

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    new_batch: list[float] = field(default_factory=list)
    planning: list[float] = field(default_factory=list)
    small_call: list[float] = field(default_factory=list)
    imports: dict[str, float] = field(default_factory=dict)
    installed: dict[str, float] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    roofs: dict[str, Roof] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ratio:
    """One quantity over another of the same round: median, and a 90% interval."""

    median: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the one below the line is ahead; "even" where the interval holds 1."""
        if self.low > 1:
            return "ahead"
        return "behind" if self.high < 1 else "even"

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio(over: Row, under: Row) -> Ratio:
    """Paired round by round."""
    return _paired(over.seconds, under.seconds)


def _paired(over: Sequence[float] | Array, under: Sequence[float]) -> Ratio:
    paired = np.asarray(over) / np.asarray(under)
    return Ratio(float(np.median(paired)), *interval(paired))


def median(row: Row) -> float:
    """Seconds of a step."""
    return statistics.median(row.seconds)


def share(row: Row) -> Ratio:
    """Share of the peak of the cores that it may use, paired round by round."""
    return _paired(row.flops / row.threads / np.array(row.seconds), row.peaks)


def share_of_best(row: Row) -> float:
    """The median step over the peak of the best round, when the clock may have been higher."""
    return row.flops / median(row) / (max(row.peaks) * row.threads)


Cell = tuple[str, str, int, int]


def cells(rows: Iterable[Row]) -> dict[Cell, dict[str, Row]]:
    """Candidates by name for each kind, workload, batch and number of threads."""
    found: dict[Cell, dict[str, Row]] = {}
    for row in rows:
        cell = row.kind, row.workload, row.batch, row.threads
        found.setdefault(cell, {})[row.candidate] = row
    return found


def fastest_peer(cell: dict[str, Row]) -> Row | None:
    """The best of the others."""
    return min((row for name, row in cell.items() if name != OURS), key=median, default=None)


def against_peers(
    rows: Iterable[Row], kind: str, threads: int, batch: int | None = None
) -> dict[str, list[Ratio]]:
    """Per peer, its time over ours on each workload; "fastest" is the best peer of each.

    Args:
        batch: of inference; None for each workload's own.
    """
    found: dict[str, list[Ratio]] = {}
    for (each, _, size, count), cell in cells(rows).items():
        if each != kind or count != threads or batch not in (None, size) or OURS not in cell:
            continue
        best = fastest_peer(cell)
        if best is not None:
            found.setdefault("fastest", []).append(ratio(best, cell[OURS]))
        for name, row in cell.items():
            if name != OURS:
                found.setdefault(name, []).append(ratio(row, cell[OURS]))
    return found


def speed_ups(rows: Sequence[Row]) -> dict[str, Ratio]:
    """Our training with two threads against our training with one."""
    found = cells(rows)
    return {
        workload: ratio(found["training", workload, batch, 1][OURS], cell[OURS])
        for (kind, workload, batch, threads), cell in found.items()
        if (kind, threads) == ("training", 2) and OURS in cell
        and OURS in found.get(("training", workload, batch, 1), {})
    }  # fmt: skip


# ------------------------------------------------------------------------------ what was wanted


@dataclass(frozen=True)
class Goal:
    """What was wanted, what was found, and whether that is enough."""

    about: str
    wanted: str
    found: str
    met: bool


PEAK_SHARES = {"W2": 0.80, "W3": 0.74, "W4": 0.80, "W5": 0.80, "W6": 0.80, "W7": 0.76}


def goals(results: Results) -> list[Goal]:
    """Every goal that these measurements can judge."""
    makers = (_training_goals, _thread_goals, _inference_goals, _memory_goals, _start_goals)
    return [goal for make in makers for goal in make(results)]


def _training_goals(results: Results) -> Iterator[Goal]:
    found = cells(results.rows)
    ratios = []
    for (kind, workload, _, threads), cell in found.items():
        best = fastest_peer(cell)
        if (kind, threads) != ("training", 1) or best is None or OURS not in cell:
            continue
        each = ratio(best, cell[OURS])
        ratios.append(each.median)
        about = f"training {workload}, 1 thread, against {best.candidate}"
        yield Goal(about, "interval above 1", str(each), each.low > 1)
    if ratios:
        mean = geometric_mean(ratios)
        about = f"training, 1 thread, fastest peers, geometric mean of {len(ratios)}"
        yield Goal(about, "1.35", f"{mean:.2f}", mean >= 1.35)
    for (kind, workload, _, threads), cell in found.items():
        wanted = PEAK_SHARES.get(workload)
        if (kind, threads) == ("training", 1) and wanted and OURS in cell:
            part = share(cell[OURS])
            text = f"{part}, {share_of_best(cell[OURS]):.2f} of the best round's"
            about = f"training {workload}, 1 thread, share of the FMA peak"
            yield Goal(about, f"{wanted:.2f}", text, part.median >= wanted)
    small = found.get(("scaling", "batch:16", 16, 1), {})
    if OURS in small and EAGER in small:
        each = ratio(small[EAGER], small[OURS])
        yield Goal("W1 at batch 16 against torch", "4", str(each), each.median >= 4)


def _thread_goals(results: Results) -> Iterator[Goal]:
    ups = {name: each for name, each in speed_ups(results.rows).items() if name != "W1"}
    if ups:
        mean = geometric_mean(each.median for each in ups.values())
        about = f"our 2 threads against our 1, W2-W7, geometric mean of {len(ups)}"
        yield Goal(about, "1.7", f"{mean:.2f}", mean >= 1.7)
        worst = min(ups, key=lambda name: ups[name].median)
        text = f"{ups[worst].median:.2f} ({worst})"
        yield Goal("the least of them", "1.4", text, ups[worst].median >= 1.4)
    for (kind, workload, _, threads), cell in cells(results.rows).items():
        best = fastest_peer(cell)
        if (kind, threads) == ("training", 2) and best is not None and OURS in cell:
            each = ratio(best, cell[OURS])
            about = f"training {workload}, 2 threads, against {best.candidate}"
            yield Goal(about, "above 1", str(each), each.median > 1)


def _inference_goals(results: Results) -> Iterator[Goal]:
    for batch in (1, 64):
        ratios = against_peers(results.rows, "inference", 1, batch).get(ONNX)
        if ratios:
            mean = geometric_mean(each.median for each in ratios)
            about = f"inference, batch {batch}, 1 thread, {ONNX}, geometric mean of {len(ratios)}"
            yield Goal(about, "above 1", f"{mean:.2f}", mean > 1)
    if results.small_call:
        took = 1e6 * statistics.median(results.small_call)
        yield Goal("compiled x + y of 1 x 16, end to end", "10 us", f"{took:.1f} us", took < 10)


def _memory_goals(results: Results) -> Iterator[Goal]:
    found = cells(results.rows)
    for (kind, workload, _, threads), cell in found.items():
        if (kind, threads) != ("training", 1) or workload not in ("W1", "W4"):
            continue
        ours, theirs = (cell[name].memory if name in cell else None for name in (OURS, EAGER))
        if ours and theirs:
            part = ours / theirs
            about = f"peak memory of training {workload} against torch"
            yield Goal(about, "0.60", f"{part:.2f}", part <= 0.6)


def _start_goals(results: Results) -> Iterator[Goal]:
    limits = {("W1", "warm"): 0.3, ("W1", "cold"): 0.8, ("W4", "cold"): 3.0}
    for row in results.starts:
        limit = limits.get((row.workload, row.cache))
        if limit:
            took = statistics.median(row.seconds)
            about = f"start of the process to the first step of {row.workload}, {row.cache}"
            yield Goal(about, f"{limit:.1f} s", f"{took:.2f} s", took < limit)
    if results.planning:
        took = 1e3 * statistics.median(results.planning)
        yield Goal("planning W1 for a new batch", "5 ms", f"{took:.2f} ms", took < 5)
    if results.installed:
        size = results.installed["chainrule"] / MEGABYTE
        yield Goal("installed, with all that is required", "300 MB", f"{size:.0f} MB", size < 300)
