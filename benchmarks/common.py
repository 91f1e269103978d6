"""Fair comparison: candidates take turns in one run, and their medians are compared."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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


def interval(numbers: Array) -> tuple[float, float]:
    """Where 90% of the medians of resampled rounds lie: a bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    found = np.median(rng.choice(numbers, (2000, len(numbers))), axis=1)
    low, high = np.quantile(found, [0.05, 0.95])
    return float(low), float(high)


def geometric_mean(numbers: Iterable[float]) -> float:
    """The mean of ratios: twice as fast and half as fast make 1."""
    logs = [math.log(number) for number in numbers]
    return math.exp(sum(logs) / len(logs))


def environment(**more: str) -> dict[str, str]:
    """For the processes that are timed: with bytecode, as an installed package has it."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | more
