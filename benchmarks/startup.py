"""How soon a program gets going: from the start of its process to the end of its first step.

    python dev.py bench startup [--rounds N]

"Cold" is with an empty cache of kernels, "warm" with a full one; the peers keep none. Every start
is a process of its own with the library's own choice of threads, and they take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from candidates import EAGER, JAX, OURS
from turns import CandidateError, Process
from workloads import WORKLOADS, chainrule_training, start_of

import chainrule as cr
from chainrule.run import prepare


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the end of its first step, one per process."""

    candidate: str
    workload: str
    cache: str
    seconds: list[float]


def starts(rounds: int) -> tuple[list[Start], list[str]]:
    """First steps of W1 and W4 in new processes, and who could not take part."""
    cases = [
        (OURS, "W1", "warm"), (OURS, "W1", "cold"), (EAGER, "W1", ""), (JAX, "W1", ""),
        (OURS, "W4", "warm"), (OURS, "W4", "cold"), (EAGER, "W4", ""), (JAX, "W4", ""),
    ]  # fmt: skip
    found: dict[tuple[str, str, str], list[float]] = {case: [] for case in cases}
    notes: dict[tuple[str, str, str], str] = {}
    with tempfile.TemporaryDirectory() as kept:
        for name in ("W1", "W4"):
            np.savez(Path(kept) / name, **start_of(WORKLOADS[name]))
        for case in cases:  # fills the warm cache, and the disk's
            _start(case, kept, [], notes)
        for _ in range(rounds):
            for case in cases:
                if case not in notes:
                    _start(case, kept, found[case], notes)
    rows = [Start(*case, seconds) for case, seconds in found.items() if seconds]
    return rows, [f"start of {name} on {on}: {why}" for (name, on, _), why in notes.items()]


def _start(
    case: tuple[str, str, str],
    kept: str,
    found: list[float],
    notes: dict[tuple[str, str, str], str],
) -> None:
    name, workload, cache = case
    with tempfile.TemporaryDirectory() as empty:
        place = empty if cache == "cold" else kept
        process = Process(
            name, workload, threads=0, start=str(Path(kept) / f"{workload}.npz"),
            CHAINRULE_CACHE=place,
        )  # fmt: skip
        try:
            process.ready()
            process.close()
        except CandidateError as error:
            notes[case] = str(error)
            return
    found.append(process.started)


def new_batch_seconds(rounds: int = 7) -> tuple[list[float], list[float]]:
    """First calls of W1's compiled step with a new batch, and the planning in them.

    Such a call traces the function, differentiates and simplifies the graph, plans it and runs it.
    """
    run, (images, classes) = chainrule_training(WORKLOADS["W1"]), WORKLOADS["W1"].data()
    run(images, classes)
    calls, plans = [], []
    for batch in range(64 - rounds, 64):
        start = time.perf_counter()
        run(images[:batch], classes[:batch])
        calls.append(time.perf_counter() - start)
        graph = next(reversed(run._entries.values())).graph
        start = time.perf_counter()
        prepare(graph)
        plans.append(time.perf_counter() - start)
    return calls, plans


def small_call_seconds(rounds: int = 9) -> list[float]:
    """A compiled sum of two arrays of 1 x 16, from array to tensor."""
    add = cr.compile(lambda x, y: x + y)
    x = np.ones((1, 16), np.float32)
    return [_each(lambda: add(x, x)) for _ in range(rounds)]


def _each(call: Callable[[], object], count: int = 1000) -> float:
    call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="From the start of a process to its first step.")
    parser.add_argument("--rounds", type=int, default=5)
    rows, notes = starts(parser.parse_args().rounds)
    for row in rows:
        took = statistics.median(row.seconds)
        print(f"{row.workload} {row.candidate:10} {row.cache:5} {took:.3f} s")
    print("".join(f"{note}\n" for note in notes), end="")
    cr.set_executor("native")
    calls, plans = map(statistics.median, new_batch_seconds())
    print(f"new batch of W1: {1e3 * calls:.2f} ms, of which planning {1e3 * plans:.2f} ms")
    print(f"x + y of 1 x 16: {1e6 * statistics.median(small_call_seconds()):.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
