"""How long each task of a plan takes: the table is run by a runner that reads a clock around each.

It runs on one thread and on copies of the variables, so that a profile changes no state. Bits do
not depend on it: the kernels and their order are the plan's own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.core.graph import Array, Variable, aligned
from chainrule.run.native import runner as words
from chainrule.run.native.jit import Library
from chainrule.run.native.kernels.calling import THREAD_BYTES
from chainrule.run.native.plan import Plan
from chainrule.run.native.target import host
from chainrule.run.native.ticks import TIMED_ENDINGS


def task_seconds(plan: Plan, inputs: Sequence[Array], rounds: int) -> tuple[Array, Array]:
    """Seconds of each task and of the whole call, round by round.

    Args:
        plan: other threads may go on using it.
        inputs: one array per graph input.
        rounds: how many runs are measured; two more come before them.

    Returns:
        Arrays of shapes (rounds, tasks) and (rounds,). A task in a loop has the sum of its laps;
        the loop itself has 0.
    """
    copies = _copies([*plan.graph.reads, *plan.graph.writes])
    reads = [copies[variable] for variable in plan.graph.reads]
    writes = [copies[variable] for variable in plan.graph.writes]
    entries = plan._table.entries.reshape(-1, words.TASK_WORDS)[: len(plan.tasks)]
    ticks = np.zeros((rounds, len(plan.tasks)))
    walls = np.zeros(rounds)
    with _timed(plan):
        for number in range(-2, rounds):
            entries[:, words.TICKS] = 0
            start = time.perf_counter()
            plan.step(inputs, reads, writes)
            if number >= 0:
                walls[number] = time.perf_counter() - start
                ticks[number] = entries[:, words.TICKS]
    return ticks / _rate(), walls


def _copies(variables: Sequence[Variable]) -> dict[Variable, Variable]:
    """Variables of the same values, which nobody else has."""
    made = {}
    for variable in dict.fromkeys(variables):
        made[variable] = Variable(variable.peek(), variable.name)
        made[variable].own()
    return made


@contextmanager
def _timed(plan: Plan) -> Iterator[None]:
    """The plan is run by the runner that counts ticks."""
    scratch = aligned((THREAD_BYTES,), np.dtype(np.uint8))
    address = scratch.ctypes.data
    run = _functions()["_one"]
    before = plan.runner
    plan.runner = lambda head: run(head, address)
    try:
        yield
    finally:
        plan.runner = before


@lru_cache(maxsize=1)
def _functions() -> dict[str, Any]:
    """The timed runner, compiled."""
    arm = host().triple.startswith(("aarch64", "arm64"))
    spec = ("timed_runner", words.RunnerSpec(arm))
    library = Library([spec], TIMED_ENDINGS)
    pointer, word = ctypes.c_void_p, ctypes.c_int64
    kinds: dict[str, tuple[Any, ...]] = {
        "_one": (word, pointer, pointer),
        "_ticks": (None, pointer),
    }
    found: dict[str, Any] = {
        ending: ctypes.CFUNCTYPE(*kind)(library.addresses[spec, ending])
        for ending, kind in kinds.items()
    }
    return {**found, "library": library}


@lru_cache(maxsize=1)
def _rate() -> float:
    """Ticks per second."""
    read = _functions()["_ticks"]
    found = np.zeros(2, np.int64)
    start = time.perf_counter()
    read(found.ctypes.data)
    while time.perf_counter() - start < 0.02:
        pass
    took = time.perf_counter() - start
    read(found[1:].ctypes.data)
    return float(found[1] - found[0]) / took
