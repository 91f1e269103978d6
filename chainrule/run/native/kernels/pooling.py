"""The largest entry of every window, and where in its plane it stands."""

from __future__ import annotations

import math
from typing import NamedTuple

from chainrule.run.native.ir import Module, Value, vector
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.kernels.windows import Axis, Plane, Slab
from chainrule.run.native.program import Lanes


class PoolSpec(NamedTuple):
    """Key of :func:`max_pool`.

    Attributes:
        rows, columns: the spatial axes.
        strip: rows of windows in a tile.
        planes: planes of a tile.
        places: whether the places are wanted.
        lanes: of the vectors.
    """

    rows: Axis
    columns: Axis
    strip: int
    planes: int
    places: bool
    lanes: int


def max_pool(module: Module, name: str, spec: PoolSpec) -> None:
    """Arguments: x, values, places if wanted; planes, strips. All in row-major order.

    The first of equal entries wins, in the order of rows; NaN wins over all. The place is counted
    row by row; that of a winner in the padding, whose window holds nothing else, is moved inside.
    """
    call = Call(module, name)
    fn, rows, columns, lanes = call.fn, spec.rows, spec.columns, spec.lanes
    x, values = call.tensor(), call.tensor()
    places = call.tensor() if spec.places else None
    planes, strips = call.number(), call.number()
    above = call.tile // strips
    first = (call.tile - above * strips) * spec.strip
    begin = above * spec.planes
    here = fn.minimum(rows.positions - first, spec.strip)
    slab = Slab(rows, columns, spec.strip)
    size, width = rows.positions * columns.positions, columns.positions
    taps = [(i, j) for i in range(rows.kernel) for j in range(columns.kernel)]
    whole = vector(lanes, "i32")

    def window(line: Value, row: Value, target: Value, p: Value) -> None:
        """A vector of windows of one row."""
        best = line.load(vector(lanes, "float"))
        down, right = fn.value(0, whole), fn.value(0, whole)
        for i, j in taps[1:]:
            number = line.load(best.type, slab.tap(i, j))
            # "not at most" is true beside NaN; a NaN that leads is kept
            better = number.compare("ugt", best) & best.compare("ord", best)
            best = fn.select(better, number, best)
            if spec.places:
                down = fn.select(better, i * rows.dilation, down)
                right = fn.select(better, j * columns.dilation, right)
        some = Lanes(fn, lanes, fn.minimum(width - p, lanes))
        assert some.mask is not None
        fn.masked_store(values.at(target), best, some.mask)
        if places is None:
            return
        numbers = fn.vector_of([lane * columns.stride for lane in range(lanes)], "i32")
        start = (p * columns.stride - columns.low).convert("trunc", "i32")
        top = (row * rows.stride - rows.low).convert("trunc", "i32")
        down = inside(down + fn.splat(top, lanes), rows.length)
        right = inside(right + fn.splat(start, lanes) + numbers, columns.length)
        place = (down * columns.length + right).convert("zext", "i64")
        fn.masked_store(places.at(target, "i64"), place, some.mask)

    def inside(place: Value, length: int) -> Value:
        low = fn.select(place.compare("slt", 0), 0, place)
        return fn.select(low.compare("sgt", length - 1), length - 1, low)

    def plane(k: Value) -> None:
        source = Plane(x.at(k * (rows.length * columns.length)), rows, columns,
                       fn.value(columns.length, "i64"), None, lanes)  # fmt: skip
        slab.fill(source, call.scratch, first, -math.inf)

        def row(r: Value) -> None:
            line = call.scratch.at(r * slab.width)
            target = k * size + (first + r) * width
            fn.loop(0, width, lanes, (), lambda p: window(line.at(p), first + r, target + p, p))

        fn.loop(0, here, 1, (), row)

    fn.loop(begin, fn.minimum(begin + spec.planes, planes), 1, (), plane)
    fn.ret()
