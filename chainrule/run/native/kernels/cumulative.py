"""Running sums along an axis."""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.ir import Module, Value, is_float
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.program import NEXT, Lanes, register_type


class CumsumSpec(NamedTuple):
    """Key of :func:`cumsum`: the element type; the lanes, 1 where the axis is the last."""

    dtype: str
    lanes: int


def cumsum(module: Module, name: str, spec: CumsumSpec) -> None:
    """y[a, i, c] = x[a, 0, c] + ... + x[a, i, c]; of float32 in float64, each entry rounded once.

    A tile is one a and a vector of c. Arguments: x, y; entries along the axis and after it; tiles
    per a.
    """
    call = Call(module, name)
    fn, (dtype, lanes) = call.fn, spec
    x, y = call.tensor(), call.tensor()
    count, cols, tiles = (call.number() for _ in range(3))
    outer = call.tile // tiles
    left = (call.tile - outer * tiles) * lanes
    start = outer * (count * cols) + left
    some = Lanes(fn, lanes, None if lanes == 1 else fn.minimum(cols - left, lanes))
    type = register_type(dtype, lanes)
    exact = is_float(type)

    def one(i: Value, total: Value) -> list[Value]:
        place = start + i * cols
        entry = some.load(x, dtype, NEXT, place)
        total = total + (entry.convert("fpext", "double") if exact else entry)
        some.store(y, total.convert("fptrunc", "float") if exact else total, NEXT, place)
        return [total]

    zero = fn.value(0, register_type("float64", lanes) if exact else type)
    fn.loop(0, count, 1, [zero], one)
    fn.ret()
