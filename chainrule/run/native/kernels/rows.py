"""Fused chains over rows: elementwise ops, and sums and maxima along each row.

A row is passed over in stages. A sum ends a stage: what depends on it comes in the next. Values of
an earlier stage that are needed again wait in the thread's memory; those of a row of few vectors
wait in registers, and its code has no loops. Elementwise chains have one stage. A chain may end in
max pooling: windows stand side by side in the row, which is a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import SIZES, Function, Module, Value
from chainrule.run.native.kernels.calling import CHAIN, Call, unraveled
from chainrule.run.native.program import (
    FAR,
    NEXT,
    REDUCTIONS,
    SAME,
    Lanes,
    Program,
    across,
    combine,
    compute,
    constant,
    identity,
    largest,
)

# The longest row whose values may wait for a later stage, and how many may.
WAITING_COLS = 4096
WAITING_VALUES = 16
# So many bytes ahead memory is asked for, if a vector is at least half a line.
_AHEAD, _HALF_LINE = 8192, 32
# So many vectors are few.
FEW_VECTORS = 8
# Chains that a sum along a row falls into, side by side: a sum waits for the one before it. What is
# left over goes to the first.
_SIDES = 2
# A line more than they need, so that they do not all fall on the same lines of the cache.
_WAITING_BYTES = WAITING_COLS * SIZES["i64"] + 64


class RowsSpec(NamedTuple):
    """Key of the kernel.

    Attributes:
        program: what is computed.
        lanes: of its vectors.
        axes: how many axes the rows have.
        short: rows are shorter than a vector.
        vectors: of a row with sums, if they are few and all full; else 0.
        ahead: memory is asked for before it is read.
    """

    program: Program
    lanes: int
    axes: int
    short: bool
    vectors: int
    ahead: bool


class _Stages:
    """Which step is computed in which pass over the row."""

    def __init__(self, program: Program) -> None:
        self.is_row = program.is_row()
        self.of: list[int] = []  # row steps: before that pass
        for step in program.steps:
            late = max((self.of[arg] for arg in step.args), default=0)
            self.of.append(late + (step.op in REDUCTIONS))
        self.stores = [
            (index, operand, self.of[index])
            for index, operand in program.stores
            if not self.is_row[index] or program.operands[operand].column != SAME
        ]
        self.row_stores = [
            pair for pair in program.stores
            if self.is_row[pair[0]] and program.operands[pair[1]].column == SAME
        ]  # fmt: skip
        self.count = 1 + max(
            [0, *(self.of[i] - 1 for i, s in enumerate(program.steps) if s.op in REDUCTIONS),
             *(stage for _, _, stage in self.stores)]
        )  # fmt: skip
        self.last_use = list(self.of)
        for index, step in enumerate(program.steps):
            if not self.is_row[index] or step.op in REDUCTIONS:
                when = self.of[index] - (step.op in REDUCTIONS)
                for arg in step.args:
                    self.last_use[arg] = max(self.last_use[arg], when)
        self.waiting = [
            index
            for index, step in enumerate(program.steps)
            if not self.is_row[index] and step.op != "load"
            and self.last_use[index] > self.of[index]
        ]  # fmt: skip


def waiting_values(program: Program) -> int:
    """How many values of a row are kept from one stage to a later one."""
    return len(_Stages(program).waiting)


def rows(module: Module, name: str, spec: RowsSpec) -> None:
    """Arguments: operands; rows, cols, rows and cols of a tile, tiles across; the lengths of the
    rows' axes but the first; for each operand its strides along those axes, and along a row if FAR,
    or of what is seen at windows the first place.
    """
    call = Call(module, name)
    call.fn.align_stack()
    program, fn = spec.program, call.fn
    bases = [call.tensor() for _ in program.operands]
    count, cols, tile_rows, tile_cols, across_tiles = (call.number() for _ in range(5))
    lengths = [call.number() for _ in range(spec.axes - 1)]
    strides: list[list[Value]] = []
    steps: list[Value | None] = []
    for operand in program.operands:
        strides.append([call.number() for _ in range(spec.axes)])
        steps.append(call.number() if operand.column == FAR or operand.windows else None)
    block = call.tile // across_tiles
    first = block * tile_rows
    left = (call.tile - block * across_tiles) * tile_cols
    right = fn.minimum(left + tile_cols, cols)

    def row(index: Value) -> None:
        at = unraveled(index, lengths) if spec.axes else []
        starts, places = [], list(steps)
        place: Value | None = None  # all that is seen at windows is seen from the same places
        for number, operand in enumerate(program.operands):
            start = bases[number]
            if operand.windows:
                if place is None:
                    place = steps[number]
                    assert place is not None
                    for i, stride in zip(at, strides[number], strict=True):
                        place = place + i * stride
                places[number] = place
            else:
                for i, stride in zip(at, strides[number], strict=True):
                    start = start.at(i * stride, IN_MEMORY[operand.dtype])
            starts.append(start)
        _Row(fn, spec, starts, places, left, right, call.scratch).write()

    fn.loop(first, fn.minimum(first + tile_rows, count), 1, (), row)
    fn.ret()


class _Row:
    """The code of one row."""

    def __init__(
        self, fn: Function, spec: RowsSpec, starts: list[Value], steps: list[Value | None],
        left: Value, right: Value, scratch: Value,
    ) -> None:  # fmt: skip
        self.fn, self.spec, self.program = fn, spec, spec.program
        self.starts, self.strides = starts, steps
        self.left, self.right, self.scratch = left, right, scratch
        self.stages = _Stages(spec.program)
        self.known: dict[int, Value] = {}  # row steps
        self.kept: dict[tuple[int, int], Value] = {}  # by step and vector, in rows of few vectors

    def write(self) -> None:
        stages, steps = self.stages, self.program.steps
        for stage in range(stages.count + 1):
            for index in range(len(steps)):
                if stages.is_row[index] and stages.of[index] == stage and index not in self.known:
                    self._row_step(index)
            if stage < stages.count:
                self._pass(stage)
        one = Lanes(self.fn, self.spec.lanes)
        for index, operand in stages.row_stores:
            one.store(self.starts[operand], self.known[index], SAME, self.left)

    def _row_step(self, index: int) -> None:
        step = self.program.steps[index]
        if step.op == "constant":
            self.known[index] = constant(self.fn, step, self.spec.lanes)
        elif step.op == "load":
            self.known[index] = self._load(index, Lanes(self.fn, self.spec.lanes), self.left)
        else:
            compute(self.program, [index], self.known)

    def _load(self, index: int, lanes: Lanes, at: Value) -> Value:
        operand = self.program.steps[index].operand
        dtype, column, windows = self.program.operands[operand]
        if windows:
            place = self.strides[operand]
            assert place is not None
            return lanes.load_at_windows(self.starts[operand], dtype, windows, place + at)
        return lanes.load(self.starts[operand], dtype, column, at, self.strides[operand])

    def _look_ahead(self, index: int, at: Value) -> None:
        """Ask for what is read soon: the processor's own guesses come too late."""
        operand = self.program.steps[index].operand
        dtype, column, windows = self.program.operands[operand]
        element = IN_MEMORY[dtype]
        if column == NEXT and not windows and self.spec.lanes * SIZES[element] >= _HALF_LINE:
            self.fn.prefetch(self.starts[operand].at(at + _AHEAD // SIZES[element], element))

    # ------------------------------------------------------------------ one pass

    def _pass(self, stage: int) -> None:
        """All columns once: the full steps of this stage, its stores, its sums."""
        fn, spec, steps, stages = self.fn, self.spec, self.program.steps, self.stages
        sums = [
            index for index, step in enumerate(steps)
            if step.op in REDUCTIONS and stages.of[index] == stage + 1
        ]  # fmt: skip
        stores = [(index, operand) for index, operand, when in stages.stores if when == stage]
        fresh = [
            index for index, step in enumerate(steps)
            if not stages.is_row[index] and step.op != "load" and stages.of[index] == stage
        ]  # fmt: skip
        if not (sums or stores or fresh):
            return
        needed = {index for index, _ in stores} | {
            arg for i in (*sums, *fresh) for arg in steps[i].args
        }
        joins = [combine(steps[index].op, steps[index].dtype) for index in sums]
        nothing = [identity(fn, steps[i].op, steps[i].dtype, spec.lanes) for i in sums]

        def entries(at: Value, lanes: Lanes, number: int = -1) -> dict[int, Value]:
            known = dict(self.known)
            for index in sorted(needed):
                if not stages.is_row[index] and (steps[index].op == "load"):
                    known[index] = self._load(index, lanes, at)
                    if spec.ahead and lanes.mask is None and not stage:
                        self._look_ahead(index, at)
                elif not stages.is_row[index] and stages.of[index] < stage:
                    if spec.vectors:
                        known[index] = self.kept[index, number]
                    else:
                        known[index] = lanes.load(*self._waiting(index), NEXT, at - self.left)
            compute(self.program, fresh, known)
            for index in fresh:
                if index in stages.waiting and spec.vectors:
                    self.kept[index, number] = known[index]
                elif index in stages.waiting:
                    place, _ = self._waiting(index)
                    lanes.store(place, known[index], NEXT, at - self.left)
            for index, operand in stores:
                _, column, windows = self.program.operands[operand]
                stride = self.strides[operand]
                if not windows:
                    lanes.store(self.starts[operand], known[index], column, at, stride)
            return known

        def columns(at: Value, lanes: Lanes, totals: list[Value], number: int = -1) -> list[Value]:
            known, new = entries(at, lanes, number), []
            for index, total, join, zero in zip(sums, totals, joins, nothing, strict=True):
                value = known[steps[index].args[0]]
                if lanes.mask is not None:
                    value = fn.select(lanes.mask, value, zero)
                new.append(join(total, value))
            return new

        pooled = [pair for pair in stores if self.program.operands[pair[1]].windows]
        if pooled:
            self._windows(pooled, entries)
            return
        every = Lanes(fn, spec.lanes)

        def join_all(a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
            return [join(x, y) for join, x, y in zip(joins, a, b, strict=True)]

        def unrolled() -> list[Value]:
            totals = [nothing] * _SIDES
            for number in range(spec.vectors):
                side = number % _SIDES if number < spec.vectors // _SIDES * _SIDES else 0
                at = self.left + number * spec.lanes
                totals[side] = columns(at, every, totals[side], number)
            return join_all(nothing, reduce(join_all, totals))

        def looped() -> list[Value]:
            whole = self.left
            totals = nothing
            if not spec.short:
                whole = self.right - (self.right - self.left) % spec.lanes

                step = _SIDES * spec.lanes

                def side_by_side(at: Value, *before: Value) -> list[Value]:
                    found = []
                    for side in range(_SIDES):
                        own = before[side * len(sums) : (side + 1) * len(sums)]
                        found += columns(at + side * spec.lanes, every, list(own))
                    return found

                def chains(at: Value, *before: Value) -> list[Value]:
                    end = fn.minimum(at + CHAIN * step, whole)
                    even = end - (end - at) % step
                    found = fn.loop(at, even, step, nothing * _SIDES, side_by_side)
                    first, *others = (
                        found[i : i + len(sums)] for i in range(0, len(found), len(sums))
                    )
                    first = fn.loop(
                        even, end, spec.lanes, first, lambda c, *t: columns(c, every, list(t))
                    )
                    return join_all(before, reduce(join_all, others, first))

                if sums:
                    totals = fn.loop(self.left, whole, CHAIN * step, nothing, chains)
                else:
                    fn.loop(self.left, whole, spec.lanes, (), lambda c: columns(c, every, []))

            def tail() -> list[Value]:
                lanes = Lanes(fn, spec.lanes, self.right - whole)
                return join_all(totals, columns(whole, lanes, nothing))

            return fn.when(whole.compare("slt", self.right), tail, lambda: totals)

        totals = unrolled() if spec.vectors else looped()
        for index, total, join in zip(sums, totals, joins, strict=True):
            self.known[index] = fn.splat(across(total, join, spec.lanes), spec.lanes)

    def _windows(
        self, stores: list[tuple[int, int]], entries: Callable[[Value, Lanes], dict[int, Value]]
    ) -> None:
        """All columns once, a row of windows after the other; the largest of each is stored.

        Args:
            stores: steps, and the operands that have an entry per window.
            entries: the values of steps at a vector of columns.
        """
        fn, lanes = self.fn, self.spec.lanes
        windows = self.program.operands[stores[0][1]].windows
        assert windows is not None
        height, width, length = windows
        even = length % lanes == 0  # else the last vectors of a row are cut off
        vectors = 1 if even and length % (width * lanes) else width  # side by side
        count = vectors * lanes // width

        def block(at: Value, end: Value) -> None:
            some = [
                Lanes(fn, lanes, None if even else end - at - v * lanes) for v in range(vectors)
            ]
            known = [
                [entries(at + (i * length + v * lanes), some[v]) for v in range(vectors)]
                for i in range(height)
            ]
            windows_here = Lanes(fn, count, None if even else (end - at) // width)
            for index, operand in stores:
                lines = [[values[index] for values in line] for line in known]
                parts = [
                    fn.shuffle(line[0], line[-1], range(j, vectors * lanes, width))
                    for line in lines
                    for j in range(width)
                ]
                best, winner = largest(parts)
                dtype, _, windows = self.program.operands[operand]
                place = self.strides[operand]
                assert windows is not None
                assert place is not None
                made = winner if dtype == "bool" else best
                windows_here.store_at_windows(self.starts[operand], made, windows, place + at)

        def band(at: Value) -> None:
            end = at + length
            fn.loop(at, end, vectors * lanes, (), lambda p: block(p, end))

        fn.loop(self.left, self.right, height * length, (), band)

    def _waiting(self, index: int) -> tuple[Value, str]:
        """Where a value waits for a later stage, and its element type."""
        number = self.stages.waiting.index(index)
        place = self.scratch.at(number * _WAITING_BYTES, "i8")
        return place, self.program.steps[index].dtype
