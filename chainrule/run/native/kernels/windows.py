"""Windows over planes: the axes they move along, and padded copies of planes in a thread's memory.

A kernel that slides windows reads its input from such a copy, where zeros stand in the padding, so
that its loops know no borders. With a stride s along an axis, entries p, p + s, p + 2 s ... lie
side by side in the copy (phase p): a vector of neighbouring windows is a vector of the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.run.native.ir import Function, Value, vector

# Vectors of a row that are written out; longer rows are a loop.
_WRITTEN_OUT = 16


class Axis(NamedTuple):
    """One spatial axis, and the windows along it.

    Attributes:
        length: entries of the input.
        kernel, stride, dilation, spread, low: as the op's attributes.
        positions: how many windows there are.
    """

    length: int
    kernel: int
    stride: int
    low: int
    dilation: int
    spread: int
    positions: int

    @property
    def phases(self) -> list[int]:
        """The phases that some entry of a window falls on."""
        return sorted({k * self.dilation % self.stride for k in range(self.kernel)})

    @property
    def reach(self) -> int:
        """Entries of a phase that the last window needs beyond its place."""
        return (self.kernel - 1) * self.dilation // self.stride

    @property
    def overlap(self) -> int:
        """Entries behind a row that are padding, as are those before the next row."""
        behind = self.positions + self.reach - self.low - self.span
        return max(0, min(self.low, behind)) if self.stride == 1 else 0

    def margin(self, lanes: int) -> int:
        """A vector of padding before each row of a copy, so that they begin where lines do; or 0.

        So fewer vectors cross lines. Short rows would become much longer.
        """
        behind = self.positions + self.reach - self.low - self.length
        may = (
            self.stride == self.spread == 1
            and self.length >= 2 * lanes
            and self.length % lanes == 0
            and min(self.low, behind) >= 0
            and 0 < max(self.low, behind) <= lanes
        )
        return lanes if may else 0

    @property
    def span(self) -> int:
        """The input's length when it is spread out."""
        return (self.length - 1) * self.spread + 1

    def tap(self, k: int) -> tuple[int, int]:
        """Where entry ``k`` of window 0 is: number of the phase, place in it."""
        place, phase = divmod(k * self.dilation, self.stride)
        return self.phases.index(phase), place


class Slab(NamedTuple):
    """The layout of the copy of a plane, for some rows of windows.

    Attributes:
        rows, columns: the two axes.
        strip: how many rows of windows it is for.
        overlaps: the padding behind a row is that before the next one.
        halves: the entries of a row take turns with those of the row half a strip further down.
        margin: entries of padding before a row, and so behind the one above it; 0: what it needs.
    """

    rows: Axis
    columns: Axis
    strip: int
    overlaps: bool = False
    halves: bool = False
    margin: int = 0

    @property
    def height(self) -> int:
        """Rows of a phase, or of pairs of them."""
        return self.strip // (2 if self.halves else 1) + self.rows.reach

    @property
    def width(self) -> int:
        """Entries of a row of a phase."""
        if self.margin:
            return self.margin + self.columns.length
        return self.columns.positions + self.columns.reach

    @property
    def pitch(self) -> int:
        """Entries from one row to the next."""
        if self.halves:
            return 2 * self.width
        return self.width - (self.columns.overlap if self.overlaps else 0)

    @property
    def size(self) -> int:
        """Entries of a plane."""
        return len(self.rows.phases) * len(self.columns.phases) * self.height * self.pitch

    @property
    def before(self) -> int:
        """Entries of padding before a row's first."""
        return self.margin or self.columns.low

    def tap(self, i: int, j: int) -> int:
        """Where entry (i, j) of the first window is."""
        (phase, row), (side, column) = self.rows.tap(i), self.columns.tap(j)
        phases = phase * len(self.columns.phases) + side
        column += self.before - self.columns.low
        return (phases * self.height + row) * self.pitch + column * (2 if self.halves else 1)

    def taps(self) -> list[int]:
        """All entries of the first window, row by row."""
        return [self.tap(i, j) for i in range(self.rows.kernel) for j in range(self.columns.kernel)]

    def fill(self, source: Plane, target: Value, first: Value, padding: float = 0.0) -> None:
        """Copy a plane.

        Args:
            source: the plane.
            target: the place of the copy; up to two vectors past its end are written too.
            first: the first row of windows.
            padding: what stands around the plane.
        """
        fn, rows, columns = target.fn, self.rows, self.columns
        place = 0
        for phase in rows.phases:
            for side in columns.phases:
                start = target.at(place)
                place += self.height * self.pitch

                def row(
                    j: Value, start: Value = start, phase: int = phase, side: int = side
                ) -> None:
                    at = (first + j) * rows.stride + (phase - rows.low)
                    steps = columns.stride, side - self.before
                    place = start.at(j * self.pitch)
                    if self.halves:
                        below = at + self.strip // 2 * rows.stride
                        source.pair(place, (at, below), self.width, steps, padding)
                    else:
                        source.row(place, at, self.width, steps, padding)

                fn.loop(0, self.height, 1, (), row)
        if self.margin:
            behind_last = fn.value(padding, vector(self.margin, "float"))
            target.store(behind_last, place)


class Plane(NamedTuple):
    """A plane in memory that is copied row by row.

    Attributes:
        base: its first entry.
        rows, columns: its axes; of these length and spread count.
        down: entries from one row to the next.
        along: entries from one column to the next; None for 1.
        lanes: of the vectors.
    """

    base: Value
    rows: Axis
    columns: Axis
    down: Value
    along: Value | None
    lanes: int

    def row(
        self, target: Value, at: Value, width: int, steps: tuple[int, int | Value], padding: float
    ) -> None:
        """Copy entries ``start``, ``start + step`` ... of row ``at``, in the spread plane.

        Args:
            target: where they go; up to a vector past the end is written.
            at: the row's number; rows and entries outside are padding.
            width: how many.
            steps: ``step`` and ``start``.
        """
        fn = self.base.fn
        index, inside = self._place(at)

        def copy() -> None:
            self._copy(self.base.at(index * self.down), target, width, steps, padding)

        def pad() -> None:
            blank = fn.value(padding, vector(self.lanes, "float"))
            _vectors(fn, width, self.lanes, lambda i: target.store(blank, i))

        fn.when(inside, copy, pad)

    def pair(
        self, target: Value, rows: tuple[Value, Value], width: int, steps: tuple[int, int],
        padding: float,
    ) -> None:  # fmt: skip
        """Copy two rows, whose entries take turns; else as :meth:`row`."""
        fn, lanes = self.base.fn, self.lanes
        step, start = steps
        blank = fn.value(padding, vector(lanes, "float"))
        offsets = range(0, width, lanes)

        def vectors(at: Value) -> list[Value]:
            index, inside = self._place(at)
            line = self.base.at(index * self.down)
            return fn.when(
                inside,
                lambda: [self._vector(line, start + i * step, step, padding) for i in offsets],
                lambda: [blank] * len(offsets),
            )

        turns = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
        for i, above, below in zip(offsets, *map(vectors, rows), strict=True):
            for half in range(0, min(2 * (width - i), 2 * lanes), lanes):
                target.store(fn.shuffle(above, below, turns[half : half + lanes]), 2 * i + half)

    def _place(self, at: Value) -> tuple[Value, Value]:
        """Which row of the plane is row ``at`` of the spread one, and whether it is one."""
        axis = self.rows
        inside = at.compare("ult", axis.span)
        if axis.spread == 1:
            return at, inside
        index = at // axis.spread
        return index, inside & (at - index * axis.spread).compare("eq", 0)

    @staticmethod
    def has_vectors(columns: Axis, step: int, near: bool) -> bool:
        """Whether every ``step``-th entry of a row can be read in vectors."""
        return columns.spread == 1 and step in (1, 2) and near

    def _copy(
        self, line: Value, target: Value, width: int, steps: tuple[int, int | Value],
        padding: float,
    ) -> None:  # fmt: skip
        """A row inside the plane."""
        step, start = steps
        if self.has_vectors(self.columns, step, self.along is None):
            if isinstance(start, int) and width <= _WRITTEN_OUT * self.lanes:
                for i in range(0, width, self.lanes):
                    target.store(self._vector(line, start + i * step, step, padding), i)
            else:
                place = line.fn.value(start, "i64")

                def one(i: Value) -> None:
                    target.store(self._vector(line, place + i * step, step, padding), i)

                _vectors(line.fn, width, self.lanes, one)
            return
        self._entries(line, target, width, (step, line.fn.value(start, "i64")), padding)

    def _vector(self, line: Value, index: int | Value, step: int, padding: float) -> Value:
        """Entries ``index``, ``index + step`` ... of a row."""
        fn, lanes = line.fn, self.lanes
        found, inside = self._load(line, index)
        if step == 2:
            more, also = self._load(line, index + lanes)
            even = range(0, 2 * lanes, 2)
            found, inside = fn.shuffle(found, more, even), fn.shuffle(inside, also, even)
        return found if padding == 0 else fn.select(inside, found, padding)

    def _load(self, line: Value, index: int | Value) -> tuple[Value, Value]:
        """Neighbouring entries from ``index`` on, and which of them are inside."""
        fn, lanes, length = line.fn, self.lanes, self.columns.length
        type = vector(lanes, "float")
        if isinstance(index, int):
            flags = [0 <= index + lane < length for lane in range(lanes)]
            inside = fn.vector_of(flags, "i1")
            if all(flags):
                return line.load(type, index), inside
            if not any(flags):
                return fn.value(0.0, type), inside
        else:
            numbers = fn.vector_of(range(lanes), "i32")
            places = fn.splat(index.convert("trunc", "i32"), lanes) + numbers
            inside = places.compare("ult", length)
        return fn.masked_load(line.at(index), type, inside), inside

    def _entries(
        self, line: Value, target: Value, width: int, steps: tuple[int, Value], padding: float
    ) -> None:
        """One entry after the other: columns that are spread out, or not along memory."""
        fn, axis = target.fn, self.columns
        step, start = steps

        def single(i: Value) -> None:
            place = start + i * step
            inside = place.compare("ult", axis.span)
            index = place
            if axis.spread > 1:
                index = place // axis.spread
                inside = inside & (place - index * axis.spread).compare("eq", 0)
            if self.along is not None:
                index = index * self.along
            (number,) = fn.when(
                inside, lambda: [line.load("float", index)], lambda: [fn.value(padding, "float")]
            )
            target.store(number, i)

        fn.loop(0, width, 1, (), single)


def _vectors(fn: Function, width: int, lanes: int, one: Callable[[Value], None]) -> None:
    """``one(i)`` for every vector that covers the width."""
    fn.loop(0, width, lanes, (), one)
