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
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.arrays import Array, address, aligned
from chainrule.core.graph import Variable
from chainrule.run.native import runner as words
from chainrule.run.native.jit import Library
from chainrule.run.native.kernels.calling import THREAD_BYTES
from chainrule.run.native.kernels.tandem import PART_WORDS, SLICE_WORDS
from chainrule.run.native.plan import Plan
from chainrule.run.native.target import host
from chainrule.run.native.task import Entry, Loop, Task
from chainrule.run.native.ticks import PART_TICKS, TIMED_ENDINGS, TIMED_PART_WORDS


class Clock(NamedTuple):
    """Where the ticks of a task are counted.

    Attributes:
        task: the task; of tasks in tandem each has a clock of its own.
        calls: how many times it is run: more than once in a loop.
        ticks: one word.
    """

    task: Task
    calls: int
    ticks: Array


def task_seconds(
    plan: Plan, inputs: Sequence[Array], rounds: int
) -> tuple[list[tuple[Task, int]], Array, Array]:
    """Seconds of each task and of the whole call, round by round.

    Args:
        plan: other threads may go on using it.
        inputs: one array per graph input.
        rounds: how many runs are measured; two more come before them.

    Returns:
        The tasks in the order of the table, each with how many times it is run; seconds of all
        these runs together, of shape (rounds, tasks); seconds of the calls, (rounds,).
    """
    copies = _copies([*plan.graph.reads, *plan.graph.writes])
    reads = [copies[variable] for variable in plan.graph.reads]
    writes = [copies[variable] for variable in plan.graph.writes]
    walls = np.zeros(rounds)
    with _timed(plan) as clocks:
        ticks = np.zeros((rounds, len(clocks)))
        for number in range(-2, rounds):
            for clock in clocks:
                clock.ticks[0] = 0
            start = time.perf_counter()
            plan.step(inputs, reads, writes)
            if number >= 0:
                walls[number] = time.perf_counter() - start
                ticks[number] = [clock.ticks[0] for clock in clocks]
    return [(clock.task, clock.calls) for clock in clocks], ticks / _rate(), walls


def _copies(variables: Sequence[Variable]) -> dict[Variable, Variable]:
    """Variables of the same values, which nobody else has."""
    made = {}
    for variable in dict.fromkeys(variables):
        made[variable] = Variable(variable.peek(), variable.name)
        made[variable].own()
    return made


@contextmanager
def _timed(plan: Plan) -> Iterator[list[Clock]]:
    """The plan is run by the runner that counts ticks, tasks in tandem by a kernel that does."""
    scratch = aligned((THREAD_BYTES,), np.dtype(np.uint8))
    run, place = _functions()["_one"], address(scratch)
    entries = plan._table.entries.reshape(-1, words.TASK_WORDS)
    clocks: list[Clock] = []
    held: list[Array] = []  # arguments of tandems; their table is as it was afterwards
    before = plan.runner, entries.copy()
    for number, task, calls in _places(plan.tasks, 0, len(plan.tasks), 1):
        entry = entries[number]
        if task.parts:
            entry[words.ARGS] = _with_clocks(task, calls, int(entry[words.ARGS]), clocks, held)
            entry[words.KERNEL] = _functions()["tandem"]
        else:
            clocks.append(Clock(task, calls, entry[words.TICKS : words.TICKS + 1]))
    plan.runner = lambda head: run(head, place)
    try:
        yield clocks
    finally:
        plan.runner = before[0]
        entries[:] = before[1]


def _places(
    tasks: Sequence[Entry], start: int, end: int, calls: int
) -> Iterator[tuple[int, Task, int]]:
    """The table's tasks by number; the body of a loop, which follows it, runs once per lap."""
    number = start
    while number < end:
        task = tasks[number]
        number += 1
        if isinstance(task, Loop):
            yield from _places(tasks, number, number + task.tiles, calls * task.laps)
            number += task.tiles
        else:
            yield number - 1, task, calls


def _with_clocks(
    tandem: Task, calls: int, start: int, clocks: list[Clock], held: list[Array]
) -> int:
    """Arguments of a tandem for the kernel that counts; where they are."""
    count, rest = len(tandem.parts), SLICE_WORDS * len(tandem.own)
    size = 2 + PART_WORDS * count + rest
    given = np.array((ctypes.c_int64 * size).from_address(start), np.int64)
    made = np.zeros(2 + TIMED_PART_WORDS * count + rest, np.int64)
    held.append(made)
    made[:2] = given[:2]
    made[len(made) - rest :] = given[size - rest :]
    for number, part in enumerate(tandem.parts):
        place = 2 + TIMED_PART_WORDS * number
        here = made[place : place + TIMED_PART_WORDS]
        kernel, args, tiles = given[2 + PART_WORDS * number :][:PART_WORDS].tolist()
        if part.task.parts:
            args = _with_clocks(part.task, calls, args, clocks, held)
            kernel = _functions()["tandem"]
        else:
            clocks.append(Clock(part.task, calls, here[PART_TICKS : PART_TICKS + 1]))
        here[:PART_WORDS] = kernel, args, tiles
    return address(made)


@lru_cache(maxsize=1)
def _functions() -> dict[str, Any]:
    """The timed runner, and the address of the timed kernel of tandems."""
    key = words.RunnerSpec(host().triple.startswith(("aarch64", "arm64")))
    runner, tandem = ("timed_runner", key), ("timed_tandem", key)
    library, kernel = Library([runner], TIMED_ENDINGS), Library([tandem])
    pointer, word = ctypes.c_void_p, ctypes.c_int64
    kinds: dict[str, tuple[Any, ...]] = {
        "_one": (word, pointer, pointer),
        "_ticks": (None, pointer),
    }
    found: dict[str, Any] = {
        ending: ctypes.CFUNCTYPE(*kind)(library.addresses[runner, ending])
        for ending, kind in kinds.items()
    }
    held = library, kernel  # code is there as long as they are
    return {**found, "tandem": kernel.addresses[tandem, ""], "held": held}


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
