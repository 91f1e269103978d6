"""Tasks in tandem: one after the other on a slice of their tensors, then on the next slice.

A task that reads what another has just written finds it in the cache when both work through the
images of a batch, or through their planes, in the same order. The slices of a tandem are its tiles.
Nothing changes but the order in which tiles run, so the bits are the same. What no other task
touches is never whole in memory: each thread has room for the slice at hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeGuard

from chainrule.run.native.kernels.calling import MOST_SLOTS, SLICES_BYTES
from chainrule.run.native.task import Entry, Loop, Own, Part, Slices, Task, free_place, rounded
from chainrule.run.native.views import Buffer, View, Windowed, row_major

# What passes from task to task is worth it from so many bytes on; smaller tensors stay in the
# cache as they are.
_LEAST_BYTES = 1 << 18
# Bytes of a slice, at least and at most, and slices at least, for the sake of many threads.
_LEAST_SLICE, _MOST_SLICE = 1 << 14, 1 << 20
_LEAST_SLICES = 8
# How many tasks that have to come later may stand between two that join.
_FAR = 256


def extent(view: View) -> int:
    """Into how many slices the view's leading axes cut its buffer; 1: they do not cut it evenly.

    What is stretched along the last axes counts as it stands in memory.
    """
    if not view.size:
        return 1
    if isinstance(view, Windowed):
        return math.gcd(_cuts(view, view.size), extent(_bands(view)))
    return _cuts(view, view.buffer.nbytes // view.dtype.itemsize)


def _bands(view: Windowed) -> View:
    """Its entries as they are; they may be cut between rows of windows, but not within them."""
    *outer, columns = view.pooled.shape
    return replace(view.pooled, shape=(math.prod(outer), columns), strides=(columns, 0))


def _cuts(view: View, total: int) -> int:
    """As :func:`extent`, of a tensor of so many entries."""
    axes = [(n, step) for n, step in zip(view.shape, view.strides, strict=True) if n != 1]
    for lead in range(len(axes), 0, -1):
        lengths = tuple(n for n, _ in axes[:lead])
        size, rest = divmod(total, math.prod(lengths))  # entries of a slice
        reach = view.offset + sum((n - 1) * abs(step) for n, step in axes[lead:])
        even = [step for _, step in axes[:lead]] == [size * step for step in row_major(lengths)]
        if even and not rest and reach < size:
            return total // size
    return 1


def sliced(
    task: Task, views: Sequence[View], count: int, cut: Callable[[int], Task | None]
) -> Task:
    """The task with a note of how it can be cut.

    Args:
        views: what it touches slice by slice; all the rest it uses as a whole.
        count: into how many slices its work falls, or any divisor of that.
        cut: the task cut into that many.
    """
    extents = dict.fromkeys([*task.reads, *task.writes], 0)
    for view in views:
        extents[view.buffer] = math.gcd(extents[view.buffer], extent(view))
    by_slices = Counter(view.buffer for view in views)
    # A product of a matrix with itself reads it both ways.
    whole = Counter(buffer for buffer, _ in task.tensors) - by_slices
    in_slices = by_slices.keys() - whole.keys()
    task.slices = Slices(count, {b: n if b in in_slices else 1 for b, n in extents.items()}, cut)
    return task


def sliced_rows(made: Task, views: Sequence[View], has_sums: bool) -> Task:
    """A task of the kernel ``rows``, cut between rows; within the row where there is but one."""
    count, width, _, tile_cols, across, *rest = made.numbers

    def by_rows(n: int) -> Task:
        numbers = [count, width, count // n, tile_cols, across, *rest]
        return replace(made, numbers=numbers, tiles=n * across)

    def by_columns(n: int) -> Task:
        return replace(made, numbers=[count, width, 1, width // n, n, *rest], tiles=n)

    if count > 1:
        return sliced(made, views, count, by_rows)
    return made if has_sums else sliced(made, views, width, by_columns)


def same_tiles(task: Task) -> Callable[[int], Task]:
    """For a task whose tiles are in the order of its slices, as many for each."""
    return lambda count: task


def in_tandem(tasks: Sequence[Entry]) -> list[Entry]:
    """The tasks, those that go together as one; what has nothing in common may change places."""
    left, done = list(tasks), list[Entry]()
    while left:
        before, lead, left = _led(left)
        done += [*in_tandem(before), lead]
    return done


def _led(tasks: list[Entry]) -> tuple[list[Entry], Entry, list[Entry]]:
    """The first task with all that can join it: what has to come before, it, and what is left."""
    lead, rest = tasks[0], tasks[1:]
    if not _may_join(lead) or all(buffer.nbytes < _LEAST_BYTES for buffer in lead.writes):
        return [], lead, rest
    before, after = list[Entry](), list[Entry]()
    own, later = _Footprint(), _Footprint()  # of the lead, and of what has to come after it
    own.add(lead)
    position = 0
    while position < len(rest) and len(after) < _FAR:
        each = rest[position]
        joined = None if later.meets(each) else _together(lead, each)
        if joined is not None:
            lead = joined
            own.add(each)
        elif _is_fixed(each) or later.meets(each) or own.meets(each):
            after.append(each)
            later.add(each)
        else:
            before.append(each)
        position += 1
    if lead is tasks[0]:
        return [], lead, rest
    return before, lead, after + rest[position:]


def _may_join(entry: Entry) -> TypeGuard[Task]:
    """Whether it can be cut, and others do not count on its place."""
    return isinstance(entry, Task) and entry.slices is not None and not _is_fixed(entry)


def _is_fixed(entry: Entry) -> bool:
    """Whether others count on its place: it writes for the outside, or may stop the run."""
    return entry.checks or any(buffer.slot is not None for buffer in entry.writes)


class _Footprint:
    """The memory that some tasks touch, and that they write."""

    def __init__(self) -> None:
        self._touched: set[object] = set()
        self._written: set[object] = set()

    def add(self, entry: Entry) -> None:
        self._touched |= {buffer.memory for buffer in _touched(entry)}
        self._written |= {buffer.memory for buffer in _written(entry)}

    def meets(self, entry: Entry) -> bool:
        """Whether the entry touches what is written there, or writes what is touched."""
        return any(buffer.memory in self._written for buffer in _touched(entry)) or any(
            buffer.memory in self._touched for buffer in _written(entry)
        )


def _touched(entry: Entry) -> list[Buffer]:
    return [*entry.reads, *_written(entry)]


def _written(entry: Entry) -> list[Buffer]:
    return [*entry.writes, *(entry.memory() if isinstance(entry, Loop) else ())]


def _contested(one: Task, other: Task) -> list[tuple[Buffer, Buffer]]:
    """The memory that both touch and one writes, as each of them knows it."""
    known = {buffer.memory: buffer for buffer in _touched(one)}
    written = {buffer.memory for buffer in (*one.writes, *other.writes)}
    return [
        (known[buffer.memory], buffer) for buffer in _touched(other)
        if buffer.memory in known and buffer.memory in written
    ]  # fmt: skip


def _together(one: Task, other: Entry) -> Task | None:
    """Both as one task, if the other reads what the one writes, and slice by slice."""
    if not _may_join(other):
        return None
    assert one.slices is not None
    assert other.slices is not None
    written = set(one.writes)
    passed = [buffer.nbytes for buffer in other.reads if buffer in written]
    if max(passed, default=0) < _LEAST_BYTES:
        return None
    contested = _contested(one, other)
    if any(a is not b for a, b in contested):
        return None
    common = math.gcd(one.slices.count, other.slices.count)
    for buffer, _ in contested:
        common = math.gcd(common, one.slices.extents[buffer], other.slices.extents[buffer])
    if one.parts and common % one.tiles == 0:
        count = one.tiles
    else:
        count = _slices(common, max(passed))
    if not count:
        return None
    first = list(one.parts) if one.tiles == count and one.parts else _part(one, count)
    second = _part(other, count)
    if first is None or second is None:
        return None
    extents = dict(one.slices.extents)
    for buffer, size in other.slices.extents.items():
        extents[buffer] = math.gcd(extents.get(buffer, 0), size)
    made = Task(
        ("tandem", None), [], [], count,
        list(dict.fromkeys([*one.reads, *other.reads])),
        list(dict.fromkeys([*one.writes, *other.writes])),
        nodes=(*one.nodes, *other.nodes), parts=_with(first, second),
    )  # fmt: skip
    made.slices = Slices(count, extents, same_tiles(made))
    return made


def _with(parts: list[Part], other: list[Part]) -> list[Part]:
    """The parts and the other; sums down columns come while the cache has what they add up."""
    place = len(parts)
    if other[0].task.spec[0] == "columns":
        while place and not _contested(parts[place - 1].task, other[0].task):
            place -= 1
    return [*parts[:place], *other, *parts[place:]]


def _slices(common: int, nbytes: int) -> int:
    """Into how many slices tensors of this size are best cut; 0: not at all."""
    for count in range(nbytes // _LEAST_SLICE, _LEAST_SLICES - 1, -1):
        if common % count == 0:
            return count if nbytes // count <= _MOST_SLICE else 0
    return 0


def _part(task: Task, count: int) -> list[Part] | None:
    """The task cut into so many slices."""
    assert task.slices is not None
    made = task.slices.cut(count)
    return None if made is None else [Part(made, made.tiles // count)]


# ------------------------------------------------------------------------------ threads' slices


def slices_apart(tasks: Sequence[Entry], slot: int) -> int:
    """Tensors that one tandem alone touches need no memory but for the slice at hand.

    Args:
        slot: the first free place in the table of addresses.

    Returns:
        The first free place afterwards.
    """
    touching = Counter(buffer for each in tasks for buffer in {*_touched(each)})
    for each in tasks:
        if isinstance(each, Task) and each.parts:
            alone = {buffer for buffer in _touched(each) if touching[buffer] == 1}
            slot = _set_apart(each, alone, 0, slot)
    return slot


def _set_apart(tandem: Task, alone: Collection[Buffer], start: int, slot: int) -> int:
    """Of the tensors that it alone touches; the room of its slices begins at ``start``."""
    users: dict[Buffer, list[int]] = {}
    for number, part in enumerate(tandem.parts):
        for buffer in dict.fromkeys(_touched(part.task)):
            users.setdefault(buffer, []).append(number)
    placed: dict[Buffer, tuple[int, int]] = {}
    end = start
    for buffer, numbers in users.items():
        shared = len(numbers) > 1 or not tandem.parts[numbers[0]].task.parts
        slices = [tandem.parts[number].task.slices for number in numbers]
        even = all(each and each.extents[buffer] % tandem.tiles == 0 for each in slices)
        if buffer not in alone or buffer.slot is not None or not shared or not even:
            continue
        nbytes = rounded(buffer.nbytes // tandem.tiles)
        rivals = [
            place for other, place in placed.items()
            if users[other][-1] >= numbers[0] and numbers[-1] >= users[other][0]
        ]  # fmt: skip
        offset = free_place(rivals, nbytes, start)
        if offset + nbytes > SLICES_BYTES or slot >= MOST_SLOTS:
            continue
        placed[buffer] = offset, nbytes
        end = max(end, offset + nbytes)
        tandem.own.append(Own(buffer, offset, buffer.nbytes // tandem.tiles))
        buffer.slot = slot
        slot += 1
    for number, part in enumerate(tandem.parts):
        if part.task.parts:
            inner = {buffer for buffer in alone if users.get(buffer) == [number]}
            slot = _set_apart(part.task, inner, end, slot)
    return slot
