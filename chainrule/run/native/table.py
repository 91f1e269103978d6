"""Tasks in memory, as the runner reads them: words for each task, and what its kernel is told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.core.arrays import Array, address, aligned
from chainrule.run.native import runner as words
from chainrule.run.native.jit import Library
from chainrule.run.native.task import Entry, Loop, Task
from chainrule.run.native.views import Buffer

# The first places in the table of addresses.
ARENA, ERRORS, KEPT, FIRST_INPUT = range(4)


class Table:
    """A list of tasks, ready to run.

    Attributes:
        tasks: them, in order; a loop is followed by its body.
        entries: the table itself, in words.
        head: the words that a run begins with.
        address: where they are.
    """

    def __init__(
        self, tasks: Sequence[Entry], library: Library, slots: Array, errors: Array, private: bool
    ) -> None:
        """``private``: slots move during a run, so that each thread has its own."""
        self.tasks = tasks
        args = _Arguments(library)
        starts = [args.add(task) for task in tasks]
        needs = [args.append(task.needs) for task in tasks]
        self._args = args.in_memory()
        start = address(self._args)
        count = len(tasks)
        self.entries = aligned((max(count, 1) * words.TASK_WORDS,), np.dtype(np.int64))
        self._progress = aligned((max(count, 1) * words.PROGRESS_WORDS,), np.dtype(np.int64))
        for i, task in enumerate(tasks):
            entry = self.entries[i * words.TASK_WORDS :]
            if isinstance(task, Task):
                entry[words.KERNEL] = library.addresses[task.spec, ""]
            entry[words.ARGS] = start + 8 * starts[i]
            entry[words.TILES] = task.tiles
            entry[words.GUARDED] = task.guarded
            entry[words.NEEDS] = len(task.needs)
            entry[words.NEEDED] = start + 8 * needs[i]
        self.head = aligned((words.HEAD_WORDS,), np.dtype(np.int64))
        self.head[words.TASKS] = count
        self.head[words.TABLE] = address(self.entries)
        self.head[words.PROGRESS] = address(self._progress)
        self.head[words.SLOTS] = address(slots)
        self.head[words.ERRORS] = address(errors)
        if private:
            self.head[words.PRIVATE] = len(slots)
        self.address = address(self.head)


class _Arguments:
    """What kernels are called with, one after the other in one array."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._words: list[int] = []
        self._links: list[int] = []  # words that hold the number of another, whose address is meant

    def append(self, words: Sequence[int]) -> int:
        """The number of the first of the words."""
        start = len(self._words)
        self._words += words
        return start

    def add(self, entry: Entry) -> int:
        """The arguments of an entry, after those of its parts; where they begin."""
        if isinstance(entry, Loop):
            return self._add_loop(entry)
        begins = [self.add(part.task) for part in entry.parts]
        start = len(self._words)
        for buffer, offset in entry.tensors:
            self._words += _place(buffer, offset)
        self._words += entry.numbers
        if entry.parts:
            self._words += [len(entry.parts), len(entry.own)]
        for part, begin in zip(entry.parts, begins, strict=True):
            self._links.append(len(self._words) + 1)
            self._words += [self._library.addresses[part.task.spec, ""], begin, part.tiles]
        for own in entry.own:
            assert own.buffer.slot is not None
            self._words += [own.buffer.slot, own.offset, own.nbytes]
        return start

    def _add_loop(self, loop: Loop) -> int:
        """A loop's record."""
        start = self.append([loop.laps, len(loop.cursors)])
        for cursor in loop.cursors:
            assert cursor.moving.slot is not None
            base = _place(cursor.base, cursor.offset)
            self._words += [cursor.moving.slot, *base, cursor.stride, cursor.mask]
        return start

    def in_memory(self) -> Array:
        """All of them; an array is never empty, so that it has a place."""
        made = np.array([*self._words, 0], np.int64)
        made[self._links] = address(made) + 8 * made[self._links]
        return made


def _place(buffer: Buffer, offset: int) -> tuple[int, int]:
    """The slot, and the bytes from there."""
    return ARENA if buffer.slot is None else buffer.slot, buffer.offset + offset
