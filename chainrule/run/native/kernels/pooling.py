"""The largest entry of every window, where in its plane it stands, and the way back."""

from __future__ import annotations

import math
from typing import NamedTuple

from chainrule.run.native.ir import Module, Value, vector
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.kernels.windows import Axis, Plane, Slab
from chainrule.run.native.program import Lanes


class PoolSpec(NamedTuple):
    """Key of :func:`max_pool` and :func:`max_unpool`.

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

    @property
    def tiles_planes(self) -> bool:
        """Whether windows stand side by side without padding, and go into few vectors."""
        axes = self.rows, self.columns
        return self.columns.stride <= 2 and all(
            axis.kernel == axis.stride and axis.dilation == 1 and axis.low == 0
            and axis.positions * axis.stride <= axis.length
            for axis in axes
        )  # fmt: skip


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
    whole = vector(lanes, "i32")

    def entries(line: Value, p: Value) -> list[tuple[int, int, Value]]:
        """The entries of a vector of windows: row, column, value."""
        if spec.tiles_planes:
            return _side_by_side(line, p, spec)
        type = vector(lanes, "float")
        return [
            (i, j, line.at(p).load(type, slab.tap(i, j)))
            for i in range(rows.kernel)
            for j in range(columns.kernel)
        ]

    def window(line: Value, row: Value, target: Value, p: Value) -> None:
        """A vector of windows of one row."""
        (_, _, best), *others = entries(line, p)
        down, right = fn.value(0, whole), fn.value(0, whole)
        for i, j, number in others:
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
        down = inside(down + fn.splat(top, lanes), rows)
        right = inside(right + fn.splat(start, lanes) + numbers, columns)
        place = (down * columns.length + right).convert("zext", "i64")
        fn.masked_store(places.at(target, "i64"), place, some.mask)

    def inside(place: Value, axis: Axis) -> Value:
        if spec.tiles_planes:
            return place
        low = fn.select(place.compare("slt", 0), 0, place)
        return fn.select(low.compare("sgt", axis.length - 1), axis.length - 1, low)

    def plane(k: Value) -> None:
        source = x.at(k * (rows.length * columns.length))
        if not spec.tiles_planes:
            down = fn.value(columns.length, "i64")
            slab.fill(
                Plane(source, rows, columns, down, None, lanes), call.scratch, first, -math.inf
            )

        def row(r: Value) -> None:
            line = call.scratch.at(r * slab.width)
            if spec.tiles_planes:
                line = source.at((first + r) * (rows.stride * columns.length))
            target = k * size + (first + r) * width
            fn.loop(0, width, lanes, (), lambda p: window(line, first + r, target + p, p))

        fn.loop(0, here, 1, (), row)

    fn.loop(begin, fn.minimum(begin + spec.planes, planes), 1, (), plane)
    fn.ret()


def _side_by_side(line: Value, p: Value, spec: PoolSpec) -> list[tuple[int, int, Value]]:
    """The entries of windows that do not overlap, read where they stand."""
    fn, lanes, step = line.fn, spec.lanes, spec.columns.stride
    type = vector(lanes, "float")
    found = []
    for i in range(spec.rows.kernel):
        start = line.at(i * spec.columns.length).at(p * step)
        parts = []
        for half in range(step):
            some = Lanes(fn, lanes, (spec.columns.positions - p) * step - half * lanes)
            assert some.mask is not None
            parts.append(fn.masked_load(start.at(half * lanes), type, some.mask))
        if step == 2:
            parts = [fn.shuffle(parts[0], parts[1], range(j, 2 * lanes, 2)) for j in range(2)]
        found += [(i, j, part) for j, part in enumerate(parts)]
    return found


def max_unpool(module: Module, name: str, spec: PoolSpec) -> None:
    """The cotangent of max pooling goes to the winners; for windows that stand side by side.

    Arguments: g, places, y; planes. A tile is some whole planes.
    """
    call = Call(module, name)
    fn, rows, columns, lanes = call.fn, spec.rows, spec.columns, spec.lanes
    g, places, y = (call.tensor() for _ in range(3))
    planes = call.number()
    begin = call.tile * spec.planes
    step, width, length = columns.stride, columns.positions, columns.length
    type = vector(lanes, "float")
    zero = fn.value(0.0, type)

    def windows(k: Value, r: Value, p: Value) -> None:
        some = Lanes(fn, lanes, width - p)
        assert some.mask is not None
        source = k * (rows.positions * width) + r * width + p
        # 0 + g, as a sum would have it: -0 becomes 0
        share = zero + fn.masked_load(g.at(source), type, some.mask)
        place = fn.masked_load(places.at(source, "i64"), vector(lanes, "i64"), some.mask)
        number = place.convert("trunc", "i32")
        corner = (r * (rows.stride * length) + p * step).convert("trunc", "i32")
        each = fn.splat(corner, lanes) + fn.vector_of([i * step for i in range(lanes)], "i32")
        for i in range(rows.kernel):
            parts = [
                fn.select(number.compare("eq", each + (i * length + j)), share, zero)
                for j in range(step)
            ]
            if step == 2:
                order = [lane // 2 + lane % 2 * lanes for lane in range(2 * lanes)]
                parts = [
                    fn.shuffle(parts[0], parts[1], order[:lanes]),
                    fn.shuffle(parts[0], parts[1], order[lanes:]),
                ]
            target = y.at((k * rows.length + r * rows.stride + i) * length + p * step)
            for half, part in enumerate(parts):
                inside = Lanes(fn, lanes, (width - p) * step - half * lanes)
                assert inside.mask is not None
                fn.masked_store(target.at(half * lanes), part, inside.mask)

    def plane(k: Value) -> None:
        if rows.positions * rows.stride < rows.length or width * step < length:
            size = rows.length * length

            def clear(c: Value) -> None:
                Lanes(fn, lanes, size - c).store(y.at(k * size), zero, 1, c)

            fn.loop(0, size, lanes, (), clear)
        fn.loop(
            0, rows.positions, 1, (),
            lambda r: fn.loop(0, width, lanes, (), lambda p: windows(k, r, p)),
        )  # fmt: skip

    fn.loop(begin, fn.minimum(begin + spec.planes, planes), 1, (), plane)
    fn.ret()
