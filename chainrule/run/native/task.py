"""One line of a plan: a kernel, what it is called with, and what it touches; or a loop of lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chainrule.core.graph import Node
from chainrule.run.native.jit import Spec
from chainrule.run.native.views import Buffer, View


@dataclass(eq=False)
class Task:
    """A kernel and the arguments of its tiles.

    Attributes:
        spec: the kernel.
        tensors: in the order in which the kernel takes them, with offsets in bytes.
        numbers: sizes and strides, after the tensors.
        tiles: how many calls make up the task.
        reads, writes: the buffers it touches.
        checks: it may find an index out of range.
        guarded: it writes a variable.
        needs: earlier tasks that must be done, by number.
        nodes: what it computes, for the profile.
        slices: how the task can be cut, if it can.
        parts: of tasks in tandem, what is done with each slice, in order.
        own: of tasks in tandem, tensors of which each thread has a slice.
    """

    spec: Spec
    tensors: list[tuple[Buffer, int]]
    numbers: list[int]
    tiles: int
    reads: list[Buffer]
    writes: list[Buffer]
    checks: bool = False
    guarded: bool = False
    needs: list[int] = field(default_factory=list)
    nodes: tuple[Node, ...] = ()
    slices: Slices | None = None
    parts: list[Part] = field(default_factory=list)
    own: list[Own] = field(default_factory=list)

    def kernels(self) -> Iterator[Spec]:
        """Its kernel, and those of its parts."""
        yield self.spec
        for part in self.parts:
            yield from part.task.kernels()


@dataclass(frozen=True)
class Slices:
    """How a task can be cut: into runs of as many tiles, each for a slice of some tensors.

    Attributes:
        count: into so many slices, or any divisor of that.
        extents: for each buffer, a number of slices into which it falls; slice i of n is the i-th
            n-th of its bytes. 1: it is used as a whole.
        cut: the task cut into n slices, n a divisor of the count; None if that can't be.
    """

    count: int
    extents: dict[Buffer, int]
    cut: Callable[[int], Task | None]


class Part(NamedTuple):
    """A task of a tandem.

    Attributes:
        task: the task.
        tiles: so many of its tiles make up a slice.
    """

    task: Task
    tiles: int


class Own(NamedTuple):
    """A tensor of which each thread has a slice.

    Attributes:
        buffer: the tensor.
        offset: where its slice begins in the thread's room for them.
        nbytes: of a slice.
    """

    buffer: Buffer
    offset: int
    nbytes: int


@dataclass(eq=False)
class Cursor:
    """An address that moves from lap to lap.

    Attributes:
        moving: what the loop's tasks see: the slice of this lap.
        base: what it moves in.
        offset: where it is in lap 0, in bytes.
        stride: bytes from lap to lap.
        mask: of the lap's number: 1 to go to and fro, -1 to go on.
    """

    moving: Buffer
    base: Buffer
    offset: int
    stride: int
    mask: int = -1


@dataclass(eq=False)
class Loop:
    """Tasks that run again and again, a lap at a time.

    Attributes:
        laps: how many times.
        tasks: the body.
        cursors: what moves from lap to lap.
        reads, writes: the buffers outside the body that it touches.
        needs: earlier entries that must be done before the first lap.
    """

    laps: int
    tasks: list[Task | Loop]
    cursors: list[Cursor]
    reads: list[Buffer]
    writes: list[Buffer]
    needs: list[int] = field(default_factory=list)
    guarded: bool = False
    nodes: tuple[Node, ...] = ()

    @property
    def tiles(self) -> int:
        """Entries of the body; without any the loop does nothing."""
        return sum(1 for _ in entries(self.tasks))

    @property
    def checks(self) -> bool:
        """Whether it may find an index out of range."""
        return any(each.checks for each in self.tasks)

    def memory(self) -> list[Buffer]:
        """Parts of the arena that only the body uses."""
        return [
            buffer for each in entries(self.tasks) for buffer in [*each.reads, *each.writes]
            if buffer.slot is None
        ]  # fmt: skip


Entry = Task | Loop


def entries(tasks: Sequence[Entry]) -> Iterator[Entry]:
    """The lines of the table: each loop is followed by its body."""
    for each in tasks:
        yield each
        if isinstance(each, Loop):
            yield from entries(each.tasks)


def task(
    spec: Spec, reads: Sequence[View], writes: Sequence[View], numbers: Sequence[int], tiles: int,
    checks: bool = False,
) -> Task:  # fmt: skip
    """A task whose kernel takes the tensors it reads, then those it writes."""
    views = [*reads, *writes]
    tensors = [(view.buffer, view.offset * view.dtype.itemsize) for view in views]
    return Task(
        spec, tensors, list(numbers), tiles, [v.buffer for v in reads], [v.buffer for v in writes],
        checks,
    )  # fmt: skip


def split(tasks: Sequence[Entry], fixed: Collection[Buffer]) -> tuple[list[Entry], list[Entry]]:
    """Tasks whose results stay the same while the fixed buffers do, and the others.

    Such a task reads what is fixed, or comes from such tasks alone, and writes parts of the arena
    that no other task writes.
    """
    writers: dict[Buffer, set[Entry]] = {}
    for each in tasks:
        for buffer in each.writes:
            writers.setdefault(buffer, set()).add(each)
    same = {each for each in tasks if not each.checks and all(b.slot is None for b in each.writes)}
    while True:
        known = {*fixed, *(buffer for buffer, by in writers.items() if by <= same)}
        left = {each for each in same if known.issuperset([*each.reads, *each.writes])}
        if left == same:
            break
        same = left
    return [each for each in tasks if each in same], [each for each in tasks if each not in same]


def keep(first: Sequence[Entry], rest: Sequence[Entry], slot: int) -> int:
    """Give what the rest reads of the first tasks' results a place of its own, not in the arena.

    Returns:
        How many bytes all these places take.
    """
    read = {buffer for each in rest for buffer in each.reads}
    size = 0
    for buffer in dict.fromkeys(buffer for each in first for buffer in each.writes):
        if buffer in read:
            buffer.slot, buffer.offset = slot, size
            size += rounded(buffer.nbytes)
    return size


def link(tasks: Sequence[Entry], first: int = 0) -> None:
    """Fill in ``needs``: whoever touches memory waits for whoever touched it before.

    Two may read at once. Tasks that write variables wait for all that look at indices. What follows
    from other needs is left out. Nobody need wait for a loop: it ends for all threads at once. The
    tasks of a loop's body need each other alone: a lap begins when the one before is done.

    Args:
        first: the number of the first entry.
    """
    writers: dict[object, list[int]] = {}
    readers: dict[object, list[int]] = {}
    parts: list[Buffer] = []  # of the arena, in order of first use
    checkers: list[int] = []
    reach: dict[int, int] = {}
    loops: set[int] = set()
    number = first
    for each in tasks:
        inner = each.memory() if isinstance(each, Loop) else []
        writes = [*each.writes, *inner]
        direct: set[int] = set(checkers) if each.guarded else set()
        for buffer in [*each.reads, *writes]:
            for memory in _sharing(buffer, parts):
                direct.update(writers.get(memory, ()))
                if buffer in writes or memory is not buffer.memory:
                    direct.update(readers.get(memory, ()))
        closure = 0
        for earlier in sorted(direct, reverse=True):
            if not closure >> earlier & 1:
                if earlier not in loops:
                    each.needs.append(earlier)
                closure |= reach[earlier] | 1 << earlier
        reach[number] = closure
        for buffer in writes:
            writers[buffer.memory], readers[buffer.memory] = [number], []
        for buffer in each.reads:
            readers.setdefault(buffer.memory, []).append(number)
        if each.checks:
            checkers.append(number)
        if isinstance(each, Loop):
            loops.add(number)
            link(each.tasks, number + 1)
            number += each.tiles
        number += 1


def _sharing(buffer: Buffer, parts: list[Buffer]) -> list[object]:
    """The memories that overlap this buffer, itself among them."""
    if buffer.slot is not None:
        return [buffer.memory]
    if buffer not in parts:
        parts.append(buffer)
    end = buffer.offset + buffer.nbytes
    return [
        other.memory for other in parts
        if other.offset < end and buffer.offset < other.offset + other.nbytes
    ]  # fmt: skip


def place(tasks: Sequence[Entry]) -> int:
    """Give each part of the arena its offset, reusing what is no longer read; the arena's size."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    _note_uses(tasks, 0, first, last)
    placed: list[Buffer] = []
    size = 0
    for buffer in sorted(first, key=lambda b: (-b.nbytes, first[b])):  # the large ones first
        rivals = [
            (b.offset, b.nbytes) for b in placed
            if first[b] <= last[buffer] and first[buffer] <= last[b]
        ]  # fmt: skip
        buffer.offset = free_place(rivals, buffer.nbytes)
        placed.append(buffer)
        size = max(size, rounded(buffer.offset + buffer.nbytes))
    return size


def free_place(taken: Sequence[tuple[int, int]], nbytes: int, start: int = 0) -> int:
    """The first place from ``start`` on where so many bytes are free; each taken (place, bytes)."""
    place = start
    for other, length in sorted(taken):
        if place + nbytes <= other:
            break
        place = max(place, rounded(other + length))
    return place


def _note_uses(
    tasks: Sequence[Entry], number: int, first: dict[Buffer, int], last: dict[Buffer, int]
) -> int:
    """When each part of the arena is used first and last; a loop uses what is outside all along."""
    for each in tasks:
        start = number
        number += 1
        if isinstance(each, Loop):
            number = _note_uses(each.tasks, number, first, last)
        for buffer in [*each.reads, *each.writes]:
            if buffer.slot is None:
                first[buffer] = min(first.get(buffer, start), start)
                last[buffer] = max(last.get(buffer, start), number - 1)
    return number


def rounded(nbytes: int) -> int:
    """Up to a whole cache line."""
    return -(-nbytes // 64) * 64
