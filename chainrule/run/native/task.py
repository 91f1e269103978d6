"""One line of a plan: a kernel, what it is called with, and what it touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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


def link(tasks: Sequence[Task]) -> None:
    """Fill in ``needs``: whoever touches memory waits for whoever touched it before.

    Two may read at once. Tasks that write variables wait for all that look at indices. What follows
    from other needs is left out.
    """
    writers: dict[object, list[int]] = {}
    readers: dict[object, list[int]] = {}
    parts: list[Buffer] = []  # of the arena, in order of first use
    checkers: list[int] = []
    reach: list[int] = []
    for number, each in enumerate(tasks):
        direct: set[int] = set(checkers) if each.guarded else set()
        for buffer in [*each.reads, *each.writes]:
            for memory in _sharing(buffer, parts):
                direct.update(writers.get(memory, ()))
                if buffer in each.writes or memory is not buffer.memory:
                    direct.update(readers.get(memory, ()))
        closure = 0
        for earlier in sorted(direct, reverse=True):
            if not closure >> earlier & 1:
                each.needs.append(earlier)
                closure |= reach[earlier] | 1 << earlier
        reach.append(closure)
        for buffer in each.writes:
            writers[buffer.memory], readers[buffer.memory] = [number], []
        for buffer in each.reads:
            readers.setdefault(buffer.memory, []).append(number)
        if each.checks:
            checkers.append(number)


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


def place(tasks: Sequence[Task]) -> int:
    """Give each part of the arena its offset, reusing what is no longer read; the arena's size."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, each in enumerate(tasks):
        for buffer in [*each.reads, *each.writes]:
            if buffer.slot is None:
                first.setdefault(buffer, number)
                last[buffer] = number
    placed: list[Buffer] = []
    size = 0
    for buffer in sorted(first, key=lambda b: (-b.nbytes, first[b])):  # the large ones first
        rivals = sorted(
            (b for b in placed if first[b] <= last[buffer] and first[buffer] <= last[b]),
            key=lambda b: b.offset,
        )
        offset = 0
        for rival in rivals:
            if offset + buffer.nbytes <= rival.offset:
                break
            offset = max(offset, _rounded(rival.offset + rival.nbytes))
        buffer.offset = offset
        placed.append(buffer)
        size = max(size, _rounded(offset + buffer.nbytes))
    return size


def _rounded(nbytes: int) -> int:
    """Up to a whole cache line."""
    return -(-nbytes // 64) * 64
