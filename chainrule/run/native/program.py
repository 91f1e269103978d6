"""A fused chain of ops as data: what one pass over rows and columns computes.

The entries of a tensor are seen as ``rows`` x ``cols``. A step is *full* when it has a value per
entry, and *row* when it has one per row: a sum along the row, or what was loaded with column stride
0. A program is hashable; it is the kernel's key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import NamedTuple

from chainrule.run.native import elementwise
from chainrule.run.native.elementwise import ELEMENT, IN_MEMORY
from chainrule.run.native.ir import Function, Value, element_of, vector, with_element
from chainrule.run.native.views import Windows

# Column strides, as far as a kernel is made for them; ONCE is the same number for all entries.
SAME, NEXT, FAR, ONCE = 0, 1, 2, 3

REDUCTIONS = ("sum", "amax")


class Step(NamedTuple):
    """One value.

    Attributes:
        op: ``"load"``, ``"constant"``, ``"product"`` (an entry of the matrix product before), a
            reduction along the row, or an elementwise op.
        args: the steps it reads.
        dtype: element type of its value.
        fact: of a load, the operand; of a constant, the number. ``"-0.0"`` is written out: it
            equals 0.0, and equal steps are one kernel.
    """

    op: str
    args: tuple[int, ...]
    dtype: str
    fact: Hashable = None

    @property
    def operand(self) -> int:
        """Of a load, the number of the operand."""
        assert isinstance(self.fact, int)
        return self.fact


class Operand(NamedTuple):
    """A tensor that is loaded or stored.

    Attributes:
        dtype: element type.
        column: how it moves along a row.
        windows: it has one entry per window: loaded, that is seen at all places; stored, it is the
            largest of the window's, or for "bool" the number of the place that has it.
    """

    dtype: str
    column: int
    windows: Windows | None = None


class Program(NamedTuple):
    """Steps in order, the tensors they touch, and which steps are stored where."""

    steps: tuple[Step, ...]
    operands: tuple[Operand, ...]
    stores: tuple[tuple[int, int], ...]

    def is_row(self) -> list[bool]:
        """For each step, whether it has one value per row."""
        return self._alike((SAME, ONCE), REDUCTIONS)

    def is_once(self) -> list[bool]:
        """For each step, whether it has one value for all entries."""
        return self._alike((ONCE,), ())

    def _alike(self, columns: Collection[int], ops: Collection[str]) -> list[bool]:
        """The steps that are made only of constants, of loads at such columns, and of such ops."""
        found: list[bool] = []
        for step in self.steps:
            if step.op == "load":
                found.append(self.operands[step.operand].column in columns)
            elif step.op in ("product", *REDUCTIONS):
                found.append(step.op in ops)
            else:
                found.append(all(found[arg] for arg in step.args))
        return found

    @property
    def has_reductions(self) -> bool:
        return any(step.op in REDUCTIONS for step in self.steps)


# ------------------------------------------------------------------------------ emitting


def register_type(dtype: str, lanes: int) -> str:
    """The type of a vector of such numbers."""
    return vector(lanes, ELEMENT[dtype])


def constant(fn: Function, step: Step, lanes: int) -> Value:
    """A constant step's number in every lane."""
    number = float(step.fact) if isinstance(step.fact, str) else step.fact
    assert isinstance(number, int | float)
    return fn.value(number, register_type(step.dtype, lanes))


def compute(program: Program, wanted: Iterable[int], known: dict[int, Value]) -> None:
    """Add the values of the wanted elementwise steps to ``known``; their operands are there."""
    for index in wanted:
        step = program.steps[index]
        known[index] = elementwise.emit(
            step.op,
            [program.steps[arg].dtype for arg in step.args],
            step.dtype,
            [known[arg] for arg in step.args],
        )


class Lanes:
    """The columns that one vector covers: all its lanes, or the first few (``count``)."""

    def __init__(self, fn: Function, lanes: int, count: Value | None = None) -> None:
        self.fn, self.lanes, self.count = fn, lanes, count
        self.mask: Value | None = None
        if count is not None:
            numbers = fn.vector_of(range(lanes), "i32")
            limit = fn.splat(count.convert("trunc", "i32"), lanes)
            self.mask = numbers.compare("slt", limit)

    def load(
        self, base: Value, dtype: str, column: int, at: Value, stride: Value | None = None
    ) -> Value:
        """The entries of columns ``at``, ``at + 1`` ... of a row that starts at ``base``."""
        element = IN_MEMORY[dtype]
        if column in (SAME, ONCE):
            loaded = self.fn.splat(base.load(element), self.lanes)
        elif column == FAR:
            assert stride is not None
            loaded = self._gathered(base, element, at, stride)
        elif self.mask is not None:
            address = base.at(at, element)
            loaded = self.fn.masked_load(address, vector(self.lanes, element), self.mask)
        else:
            loaded = base.load(vector(self.lanes, element), at)
        return loaded.compare("ne", 0) if dtype == "bool" else loaded

    def load_at_windows(self, base: Value, dtype: str, windows: Windows, place: Value) -> Value:
        """What the windows of the places from ``place`` on have; they are in two rows at most.

        Of "bool" a window has the number of the place for which it is true.
        """
        fn, (_, width, length), count = self.fn, windows, self.lanes // windows.width
        row = place // length
        first, corner = _window(windows, row, place - row * length)
        element = IN_MEMORY[dtype]
        if length % self.lanes == 0 and self.mask is None:
            some = base.load(vector(count, element), first)
            cells = fn.splat(corner.convert("trunc", "i8"), self.lanes)
        else:  # what is left of a row, and what follows in the next one
            left = ((row + 1) * length - place).convert("trunc", "i32")
            next_, below = _window(windows, row + 1, fn.value(0, "i64"))
            numbers = fn.vector_of(range(0, self.lanes, width), "i32")
            here = numbers.compare("slt", fn.splat(left, count))
            rest = here ^ 1
            if self.count is not None:
                limit = fn.splat(self.count.convert("trunc", "i32"), count)
                here, rest = (mask & numbers.compare("slt", limit) for mask in (here, rest))
            type = vector(count, element)
            some = fn.masked_load(base.at(first, element), type, here)
            apart = left.convert("sext", "i64") // width
            some = fn.masked_load(base.at(next_ - apart, element), type, rest, some)
            in_row = fn.vector_of(range(self.lanes), "i32")
            in_row = in_row.compare("slt", fn.splat(left, self.lanes))
            corners = [fn.splat(c.convert("trunc", "i8"), self.lanes) for c in (corner, below)]
            cells = fn.select(in_row, *corners)
        each = fn.shuffle(some, some, [lane // width for lane in range(self.lanes)])
        if dtype != "bool":
            return each
        return each.compare(
            "eq", cells + fn.vector_of([n % width for n in range(self.lanes)], "i8")
        )

    def _gathered(self, base: Value, element: str, at: Value, stride: Value) -> Value:
        fn = self.fn
        made = fn.value(0, vector(self.lanes, element))
        for lane in range(self.lanes):
            place: Value | int = lane
            if self.count is not None and lane:
                place = fn.select(self.count.compare("sgt", lane), fn.value(lane, "i64"), 0)
            number = base.load(element, (at + place) * stride)
            made = fn.op(
                made.type, f"insertelement {made.type} {made}, {element} {number}, i64 {lane}"
            )
        return made

    def store(
        self, base: Value, value: Value, column: int, at: Value, stride: Value | None = None
    ) -> None:
        """Write the entries of columns ``at``, ``at + 1`` ... of a row."""
        fn = self.fn
        value = in_memory(value)
        element = value.type[1:-1].split(" x ")[1]
        if column == NEXT and self.mask is None:
            base.store(value, at)
        elif column == NEXT and self.mask is not None:
            fn.masked_store(base.at(at, element), value, self.mask)
        elif column == SAME:
            base.store(fn.lane(value, 0))
        else:
            assert stride is not None
            step = stride
            count = self.count if self.count is not None else self.lanes

            def one(lane: Value) -> None:
                base.store(fn.lane(value, lane), (at + lane) * step)

            fn.loop(0, count, 1, (), one)

    def store_at_windows(self, base: Value, values: Value, windows: Windows, place: Value) -> None:
        """What the windows of the places from ``place`` on have; all are in one row."""
        row = place // windows.length
        first, _ = _window(windows, row, place - row * windows.length)
        if self.mask is None:
            base.store(values, first)
        else:
            self.fn.masked_store(base.at(first, element_of(values.type)), values, self.mask)


def _window(windows: Windows, row: Value, column: Value) -> tuple[Value, Value]:
    """The window of a place, and the number that the first place of its row has there."""
    height, width, length = windows
    band = row // height
    first = band * (length // width) + column // width
    return first, (row - band * height) * width


def in_memory(value: Value) -> Value:
    """Booleans as bytes; other numbers as they are."""
    return value.convert("zext", "i8") if value.type.endswith(" x i1>") else value


def largest(entries: Sequence[Value]) -> tuple[Value, Value]:
    """In each lane the largest entry, and its number; the first of equal ones, NaN before all."""
    best, fn = entries[0], entries[0].fn
    winner = fn.value(0, with_element(best.type, "i8"))
    for number, entry in enumerate(entries[1:], 1):
        # "not at most" is true beside NaN; a NaN that leads is kept
        better = entry.compare("ugt", best) & best.compare("ord", best)
        best, winner = fn.select(better, entry, best), fn.select(better, number, winner)
    return best, winner


# ------------------------------------------------------------------------------ reductions

Combine = Callable[[Value, Value], Value]


def combine(op: str, dtype: str) -> Combine:
    """How two partial results become one."""
    if op == "sum":
        return lambda a, b: a + b
    return lambda a, b: elementwise.emit("maximum", (dtype, dtype), dtype, (a, b))


def identity(fn: Function, op: str, dtype: str, lanes: int) -> Value:
    """What changes nothing when it is combined."""
    type = register_type(dtype, lanes)
    if op == "sum":
        return fn.value(0, type)
    lowest = {
        "float32": -float("inf"), "float64": -float("inf"), "int32": -(2**31),
        "int64": -(2**63), "uint8": 0, "uint32": 0, "bool": 0,
    }  # fmt: skip
    return fn.value(lowest[dtype], type)


def across(v: Value, join: Combine, lanes: int) -> Value:
    """All lanes joined, as a fixed tree; the result stands in every lane."""
    while lanes > 1:
        half = lanes // 2
        low = v.fn.shuffle(v, v, range(half))
        v = join(low, v.fn.shuffle(v, v, range(half, lanes)))
        lanes = half
    return v.fn.lane(v, 0)
