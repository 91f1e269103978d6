"""The largest entry of windows of any length, along any number of axes, one after the other.

For what the vectors of ``pooling`` do not do: adaptive pooling, whose windows differ in length,
three spatial axes, and planes too large to be copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from chainrule.run.native.ir import Module, Value
from chainrule.run.native.kernels.calling import Call, unraveled

# Rows of the table of an axis: the first entry of each window (moved inside, where it is padding),
# the first entry inside, and how many there are.
CORNER, START, COUNT = range(3)


class BinsSpec(NamedTuple):
    """Key of :func:`max_bins`.

    Attributes:
        steps: entries of the input from one entry of a window to the next, for each spatial axis.
        planes: planes of a tile.
    """

    steps: tuple[int, ...]
    planes: int


def max_bins(module: Module, name: str, spec: BinsSpec) -> None:
    """The first of equal entries wins, in the order of rows; NaN wins over all.

    A window of nothing but -inf has its place at its corner. Arguments: x, a table for each axis,
    values, places; planes, lengths of the input's axes and of the result's. All in row-major order.
    """
    call = Call(module, name)
    fn, rank = call.fn, len(spec.steps)
    x, *tables = (call.tensor() for _ in range(1 + rank))
    values, places = call.tensor(), call.tensor()
    planes = call.number()
    lengths = [call.number() for _ in range(rank)]
    counts = [call.number() for _ in range(rank)]
    size, windows = _product(lengths), _product(counts)
    first = call.tile * spec.planes

    def look(
        axis: int, base: Value, line: Value, at: Sequence[Value], best: Value, place: Value
    ) -> list[Value]:
        """The entries of a window from this axis on; ``base`` is the place of the axes before."""
        start = tables[axis].load("i64", counts[axis] * START + at[axis])
        count = tables[axis].load("i64", counts[axis] * COUNT + at[axis])

        def one(k: Value, best: Value, place: Value) -> list[Value]:
            here = base * lengths[axis] + start + k * spec.steps[axis]
            if axis + 1 < rank:
                return look(axis + 1, here, line, at, best, place)
            number = line.load("float", here)
            # "not at most" is true beside NaN; a NaN that leads is kept
            better = number.compare("ugt", best) & best.compare("ord", best)
            return [fn.select(better, number, best), fn.select(better, here, place)]

        return fn.loop(0, count, 1, [best, place], one)

    def plane(p: Value) -> None:
        line = x.at(p * size)

        def window(w: Value) -> None:
            at = unraveled(w, counts[1:])
            corner = fn.value(0, "i64")
            for axis in range(rank):
                corner = corner * lengths[axis] + tables[axis].load("i64", at[axis])
            lowest = fn.value(-math.inf, "float")
            best, place = look(0, fn.value(0, "i64"), line, at, lowest, corner)
            values.store(best, p * windows + w)
            places.store(place, p * windows + w)

        fn.loop(0, windows, 1, (), window)

    fn.loop(first, fn.minimum(first + spec.planes, planes), 1, (), plane)
    fn.ret()


def _product(numbers: Sequence[Value]) -> Value:
    total = numbers[0]
    for number in numbers[1:]:
        total = total * number
    return total
