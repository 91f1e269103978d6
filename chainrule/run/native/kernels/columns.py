"""Sums and maxima down the columns, and the place of the largest entry."""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import Module, Value, is_float
from chainrule.run.native.kernels.calling import CHAIN, Call
from chainrule.run.native.program import NEXT, Lanes, combine, identity

# Vectors side by side in one tile.
WIDTH = 4


class ColumnsSpec(NamedTuple):
    """Key of :func:`columns`: the reduction, the element type, the lanes."""

    op: str
    dtype: str
    lanes: int


def columns(module: Module, name: str, spec: ColumnsSpec) -> None:
    """y[a, c] = x[a, 0, c] + x[a, 1, c] + ..., in chains of 384 rows.

    Arguments: x, y; rows, cols; strides of x along a and the rows, of y along a; tiles across.
    """
    call = Call(module, name)
    fn, (op, dtype, lanes) = call.fn, spec
    x, y = call.tensor(), call.tensor()
    count, cols, x_outer, x_row, y_outer, tiles = (call.number() for _ in range(6))
    outer = call.tile // tiles
    left = (call.tile - outer * tiles) * (WIDTH * lanes)
    x, y = x.at(outer * x_outer, IN_MEMORY[dtype]), y.at(outer * y_outer, IN_MEMORY[dtype])
    join = combine(op, dtype)
    zero = identity(fn, op, dtype, lanes)
    places = [left + lanes * i for i in range(WIDTH)]
    parts = [Lanes(fn, lanes, _clamped(cols - place, lanes)) for place in places]

    def chain(start: Value, *totals: Value) -> list[Value]:
        def row(r: Value, *sums: Value) -> list[Value]:
            base = x.at(r * x_row, IN_MEMORY[dtype])
            return [
                join(total, part.load(base, dtype, NEXT, place))
                for total, part, place in zip(sums, parts, places, strict=True)
            ]

        end = fn.minimum(start + CHAIN, count)
        found = fn.loop(start, end, 1, [zero] * WIDTH, row)
        return [join(a, b) for a, b in zip(totals, found, strict=True)]

    totals = fn.loop(0, count, CHAIN, [zero] * WIDTH, chain)
    for total, part, place in zip(totals, parts, places, strict=True):
        part.store(y, total, NEXT, place)
    fn.ret()


def _clamped(count: Value, lanes: int) -> Value:
    """Between 0 and the number of lanes."""
    least = count.fn.select(count.compare("sgt", 0), count, 0)
    return count.fn.minimum(least, lanes)


class ArgmaxSpec(NamedTuple):
    """Key of :func:`argmax`: the element type."""

    dtype: str


def argmax(module: Module, name: str, spec: ArgmaxSpec) -> None:
    """y[a, c]: the first row r with the largest x[a, r, c]; NaN is larger than all.

    Arguments: x, y; rows, cols; strides of x along a, the rows and the cols. A tile is one a.
    """
    call = Call(module, name)
    fn, dtype = call.fn, spec.dtype
    x, y = call.tensor(), call.tensor()
    count, cols, x_outer, x_row, x_col = (call.number() for _ in range(5))
    memory = IN_MEMORY[dtype]
    x = x.at(call.tile * x_outer, memory)
    y = y.at(call.tile * cols, "i64")
    signed = "sgt" if dtype[0] == "i" else "ugt"

    def column(c: Value) -> None:
        base = x.at(c * x_col, memory)

        def row(r: Value, best: Value, place: Value) -> list[Value]:
            number = base.load(memory, r * x_row)
            if is_float(memory):
                # "not at most" is true beside NaN; a NaN that leads is kept
                better = number.compare("ugt", best) & best.compare("ord", best)
            else:
                better = number.compare(signed, best)
            return [fn.select(better, number, best), fn.select(better, r, place)]

        start = [base.load(memory), fn.value(0, "i64")]
        y.store(fn.loop(1, count, 1, start, row)[1], c)

    fn.loop(0, cols, 1, (), column)
    fn.ret()
