"""Fair comparison: candidates take turns in one run, and their medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes, on the wall clock."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def medians(
    candidates: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1
) -> dict[str, float]:
    """Seconds per call of each candidate: the median of ``rounds`` turns.

    Turns alternate, so what else the machine does falls on all candidates alike.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + rounds):
        for name, action in candidates.items():
            took = seconds(action)
            if turn >= warmup:
                times[name].append(took)
    return {name: statistics.median(found) for name, found in times.items()}
