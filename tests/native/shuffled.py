"""Runs a plan tile by tile in a random order, as any number of threads might."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from chainrule.core.arrays import address
from chainrule.run.native import runner as words
from chainrule.run.native.kernels.calling import THREAD_BYTES
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Loop, Task
from chainrule.run.native.team import team


@contextmanager
def shuffled(plan: Plan, seed: int) -> Iterator[None]:
    """Inside, this plan runs in a random order, and it does run."""
    run = ShuffledRun(plan, seed)
    usual, of_team = plan.runner, team.run
    plan.runner = team.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        plan.runner, team.run = usual, of_team  # type: ignore[method-assign]
    assert run.tiles


class ShuffledRun:
    """Stands in for the team's ``run``: any order among the tasks whose needs are done.

    What follows a loop waits for it; what stands before it may be late unless the loop needs it.
    Each tile gets the memory of some thread.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.rng = plan, np.random.default_rng(seed)
        self.tiles = 0  # that have been run
        self.scratch = [np.full(THREAD_BYTES, fill, np.uint8) for fill in (0, 255, 127)]

    def __call__(self, head: int) -> int:
        plan = self.plan
        (table,) = (each for each in (plan._table, plan._first_table) if each.address == head)
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_void_p)
        self.tasks = table.tasks
        self.kernels = [
            kind(plan._library.addresses[task.spec, ""]) if isinstance(task, Task) else None
            for task in table.tasks
        ]
        self.table = table.entries.reshape(-1, words.TASK_WORDS)
        self._section(0, len(table.tasks))
        return 0

    def _section(self, first: int, last: int) -> None:
        """Some entries of the table."""
        left: dict[int, list[int]] = {}
        ends: dict[int, int] = {}
        index = first
        while index < last:
            entry = self.tasks[index]
            if isinstance(entry, Loop):
                left[index], ends[index] = [0], index + 1 + entry.tiles
                index = ends[index]
            else:
                left[index] = list(self.rng.permutation(entry.tiles))
                index += 1
        while any(left.values()):
            loops = [i for i in ends if left[i]]
            ready = [
                i for i, tiles in left.items()
                if tiles and not any(left[need] for need in self.tasks[i].needs)
                and (not loops or i <= loops[0])
            ]  # fmt: skip
            index = int(self.rng.choice(ready))
            tile = int(left[index].pop())
            if index in ends:
                self._loop(index, ends[index])
            else:
                self._tile(index, tile)

    def _tile(self, index: int, tile: int) -> None:
        scratch = self.scratch[self.rng.integers(len(self.scratch))]
        args = int(self.table[index, words.ARGS])
        kernel = self.kernels[index]
        assert kernel is not None
        self.tiles += 1
        kernel(address(self.plan._slots), args, tile, scratch.ctypes.data)

    def _loop(self, index: int, end: int) -> None:
        loop, slots = self.tasks[index], self.plan._slots
        assert isinstance(loop, Loop)
        for lap in range(loop.laps):
            for cursor in loop.cursors:
                base, offset = cursor.base, cursor.offset
                start = slots[base.slot or 0] + base.offset
                slots[cursor.moving.slot] = start + offset + (lap & cursor.mask) * cursor.stride
            self._section(index + 1, end)
