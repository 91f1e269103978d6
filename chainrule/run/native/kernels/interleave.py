"""Two rows become one: their entries take turns."""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.ir import Module, Value, vector
from chainrule.run.native.kernels.calling import Call, dot, unraveled
from chainrule.run.native.program import Lanes


class InterleaveSpec(NamedTuple):
    """Key of :func:`interleave`: how many axes the rows have, and the lanes of the vectors."""

    axes: int
    lanes: int


def interleave(module: Module, name: str, spec: InterleaveSpec) -> None:
    """y[r, q, j] = x[r, j, q] for j = 0, 1; y in row-major order, q along memory in x.

    A tile is some rows. Arguments: x, y; rows, q, rows of a tile, from j = 0 to j = 1 in x; the
    lengths of the rows' axes but the first; the strides of x along them.
    """
    call = Call(module, name)
    fn, lanes = call.fn, spec.lanes
    x, y = call.tensor(), call.tensor()
    count, cols, tile_rows, apart = (call.number() for _ in range(4))
    lengths = [call.number() for _ in range(spec.axes - 1)]
    strides = [call.number() for _ in range(spec.axes)]
    type = vector(lanes, "float")
    turns = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]

    def row(index: Value) -> None:
        source = x.at(dot(unraveled(index, lengths), strides))
        target = y.at(index * cols * 2)

        def some(p: Value) -> None:
            mask = Lanes(fn, lanes, cols - p).mask
            assert mask is not None
            even, odd = (fn.masked_load(source.at(start), type, mask) for start in (p, p + apart))
            for half in range(2):
                inside = Lanes(fn, lanes, (cols - p) * 2 - half * lanes).mask
                assert inside is not None
                part = fn.shuffle(even, odd, turns[half * lanes : (half + 1) * lanes])
                fn.masked_store(target.at(p * 2 + half * lanes), part, inside)

        fn.loop(0, cols, lanes, (), some)

    start = call.tile * tile_rows
    fn.loop(start, fn.minimum(start + tile_rows, count), 1, (), row)
    fn.ret()
