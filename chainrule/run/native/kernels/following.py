"""The elementwise chain on a finished tile of a matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import SIZES, Body, Function, Value, vector
from chainrule.run.native.kernels.calling import LINE, Call, dot
from chainrule.run.native.kernels.packing import Panels
from chainrule.run.native.program import FAR, NEXT, ONCE, Lanes, Program, compute, constant


class Chained(Panels, Protocol):
    """What :class:`Following` is told: the chain, the shape of a panel, the axes of the batch."""

    @property
    def program(self) -> Program: ...
    @property
    def axes(self) -> int: ...


class Following:
    """The elementwise chain on finished parts of a panel of one matrix.

    Attributes:
        starts: where each operand's first row starts.
        row_strides: elements from one row to the next.
        col_strides: those from one column to the next, if FAR.
        once: the steps that have one value for all entries.
    """

    def __init__(
        self, fn: Function, spec: Chained, starts: Sequence[Value], row_strides: Sequence[Value],
        col_strides: Sequence[Value | None],
    ) -> None:  # fmt: skip
        self.fn, self.spec, self.program = fn, spec, spec.program
        self.starts, self.row_strides, self.col_strides = starts, row_strides, col_strides
        self.is_row = spec.program.is_row()
        self.once: dict[int, Value] = {}
        every = Lanes(fn, spec.lanes)
        self._compute(self.once, spec.program.is_once(), starts, every, fn.value(0, "i64"))

    def ask(self, top: Value, left: Value, rows: Value) -> None:
        """Bring rows, a panel's width of each, of every tensor that is read or written nearer."""
        self.fn.loop(0, rows, 1, (), lambda row: self.ask_row(top + row, left))

    def ask_row(self, row: Value, left: Value) -> None:
        """As :func:`ask`, one row."""
        width = self.spec.lanes * self.spec.panel
        written = {operand for _, operand in self.program.stores}
        starts = self.at(row)
        for i, operand in enumerate(self.program.operands):
            if operand.column == NEXT:
                element = IN_MEMORY[operand.dtype]
                place = starts[i].at(left, element)
                for byte in range(0, width * SIZES[element], LINE):
                    self.fn.prefetch(place.at(byte, "i8"), i in written)

    def write(self, top: Value, left: Value, rows: Value, cols: Value, sums: Value) -> None:
        """The chain on some rows whose sums are given, and ``cols`` columns of the panel."""
        fn, lanes = self.fn, self.spec.lanes
        width = lanes * self.spec.panel

        def full_row(row: Value, *starts: Value) -> list[Value]:
            self._write_row(starts, left, sums.at(row * width))
            return self._below(starts, 1)

        def ragged_row(row: Value, *starts: Value) -> list[Value]:
            known = self._row(starts, left)

            def part(at: Value) -> None:
                some = Lanes(fn, lanes, cols - at)
                product = sums.load(vector(lanes, "float"), row * width + at)
                self._vector(starts, known, some, product, left + at)

            fn.loop(0, cols, lanes, (), part)
            return self._below(starts, 1)

        starts = self.at(top)

        def rows_of(one: Body) -> None:
            fn.loop(0, rows, 1, starts, one)

        is_full = cols.compare("eq", width)
        fn.when(is_full, partial(rows_of, full_row), partial(rows_of, ragged_row))

    def write_now(self, left: Value, totals: Sequence[Value]) -> None:
        """The chain on the first rows of a whole panel, whose sums are in registers."""
        lanes, panel = self.spec.lanes, self.spec.panel
        every, starts = Lanes(self.fn, lanes), self.starts
        for first in range(0, len(totals), panel):
            known = self._row(starts, left)
            for j in range(panel):
                self._vector(starts, known, every, totals[first + j], left + j * lanes)
            starts = self._below(starts, 1)

    def at(self, row: Value) -> list[Value]:
        """Where a row of each operand starts."""
        return self._below(self.starts, row)

    def _below(self, starts: Sequence[Value], rows: Value | int) -> list[Value]:
        """Where the row of each operand starts that is so many below."""
        each = zip(starts, self.row_strides, self.program.operands, strict=True)
        return [
            start if operand.column == ONCE else start.at(stride * rows, IN_MEMORY[operand.dtype])
            for start, stride, operand in each
        ]

    def _write_row(self, starts: Sequence[Value], left: Value, sums: Value) -> None:
        """A row of a whole panel, whose sums are given."""
        lanes = self.spec.lanes
        every, known = Lanes(self.fn, lanes), self._row(starts, left)
        for j in range(self.spec.panel):
            product = sums.load(vector(lanes, "float"), j * lanes)
            self._vector(starts, known, every, product, left + j * lanes)

    def _row(self, starts: Sequence[Value], left: Value) -> dict[int, Value]:
        """What a row has one value of."""
        known = dict(self.once)
        self._compute(known, self.is_row, starts, Lanes(self.fn, self.spec.lanes), left)
        return known

    def _vector(
        self, starts: Sequence[Value], row_known: dict[int, Value], lanes: Lanes, product: Value,
        column: Value,
    ) -> None:  # fmt: skip
        steps = self.program.steps
        known = row_known | {i: product for i, step in enumerate(steps) if step.op == "product"}
        self._compute(known, [True] * len(steps), starts, lanes, column)
        for index, operand in self.program.stores:
            place = self.program.operands[operand].column
            stride = self.col_strides[operand]
            lanes.store(starts[operand], known[index], place, column, stride)

    def _compute(
        self, known: dict[int, Value], wanted: Sequence[bool], starts: Sequence[Value],
        lanes: Lanes, column: Value,
    ) -> None:  # fmt: skip
        """Add the values of the wanted steps that are not known yet."""
        for index, step in enumerate(self.program.steps):
            if index in known or not wanted[index]:
                continue
            if step.op == "constant":
                known[index] = constant(self.fn, step, self.spec.lanes)
            elif step.op == "load":
                i = step.operand
                dtype, place, _ = self.program.operands[i]
                known[index] = lanes.load(starts[i], dtype, place, column, self.col_strides[i])
            else:
                compute(self.program, [index], known)


def following(call: Call, spec: Chained, bases: Sequence[Value], batch: list[Value]) -> Following:
    """What follows in one matrix of a batch; the call's next numbers are the operands' strides."""
    starts, row_strides = [], []
    col_strides: list[Value | None] = []
    for base, operand in zip(bases, spec.program.operands, strict=True):
        if operand.column == ONCE:
            starts.append(base)
            row_strides.append(call.fn.value(0, "i64"))
            col_strides.append(None)
            continue
        along_batch = [call.number() for _ in range(spec.axes)]
        row_strides.append(call.number())
        col_strides.append(call.number() if operand.column == FAR else None)
        starts.append(base.at(dot(batch, along_batch), IN_MEMORY[operand.dtype]))
    return Following(call.fn, spec, starts, row_strides, col_strides)
