"""Convolution with few windows: the gradient of a kernel, where a window is a whole image.

    y[b, o, q] = sum over c, k of  w[o, c, k] x[b, c, q stride + k dilation - low]

Here (b, q) are many small rows, o stands in vectors, and the sum is long. In a kernel's gradient
b is a channel and c a sample of the batch. For each c the planes of all b are copied,
padded, and w is turned, so that the outputs of an entry lie side by side. Planes are short and lie
far apart, so that the processor does not foresee what is read: the next is asked for between
blocks. A chain of products runs
over up to 384 entries of a window; chains are added in order to the sums of the tile, and a last
task adds the sums of the tiles in order.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.calling import CHAIN, Call, add_chain
from chainrule.run.native.kernels.gemm import turned
from chainrule.run.native.kernels.windows import Axis, Plane

# Numbers of a line of the cache.
_LINE = 16
# Entries of a window that are written out side by side, at most.
_UNROLL = 4


class WideSpec(NamedTuple):
    """Key of :func:`wide_convolution`.

    Attributes:
        outputs: of one group.
        rows, columns: the spatial axes.
        near: the input's columns lie along memory.
        lanes, panel, blocks: the target's shape.
        samples: b of a tile, at most.
    """

    outputs: int
    rows: Axis
    columns: Axis
    near: bool
    lanes: int
    panel: int
    blocks: tuple[int, ...]
    samples: int

    @property
    def piece(self) -> tuple[int, int]:
        """Rows and columns of a window whose products make one chain."""
        wide, high = self.columns.kernel, self.rows.kernel
        if wide > CHAIN:
            return 1, CHAIN
        pieces = -(-high // max(1, CHAIN // wide))
        return -(-high // pieces), wide

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of the copy of a plane."""
        (high, wide), rows, columns = self.piece, self.rows, self.columns
        return (
            (high - 1) * rows.dilation + (rows.positions - 1) * rows.stride + 1,
            (wide - 1) * columns.dilation + (columns.positions - 1) * columns.stride + 1,
        )

    @property
    def size(self) -> int:
        """Numbers of the copy of a plane."""
        high, wide = self.plane
        return high * wide

    @property
    def vectors(self) -> int:
        """Vectors of outputs."""
        return -(-self.outputs // self.lanes)

    @property
    def turned(self) -> int:
        """Numbers of the turned piece of w."""
        high, wide = self.piece
        return (high * wide + self.lanes) * self.vectors * self.lanes

    @property
    def windows(self) -> int:
        """Windows of a plane."""
        return self.rows.positions * self.columns.positions

    @property
    def room(self) -> int:
        """Numbers of the thread's memory."""
        return self.turned + self.samples * self.size


def _parts(total: int, most: int) -> list[tuple[int, int]]:
    """Parts of about the same size: (start, size) of each."""
    count = -(-total // most)
    cuts = [total * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(cuts)]


def wide_convolution(module: Module, name: str, spec: WideSpec) -> None:
    """Arguments: x, w, sums; groups, samples, parts of them; channels, channels of a tile, tiles
    along them; strides of x along samples, channels, rows, columns, of w along outputs, channels.

    The entries of a window of w follow one another. Sums are (tile, group, b, window, output), the
    outputs up to whole vectors.
    """
    full = spec.blocks[0] * spec.panel
    counts = sorted({width for _, width in _parts(spec.vectors, spec.panel)}, reverse=True)
    shapes = {}
    for count in counts:
        windows = _parts(spec.windows, full // count)
        several = max(1, (full - 2) // count // spec.windows) if len(windows) == 1 else 1
        shapes[count] = windows, several
        for begin, size in windows:
            for number in {several, 1}:
                _block(module, f"block{count}_{begin}_{number}", spec, count, (begin, size), number)
    _turn(module, spec)
    call = Call(module, name)
    fn = call.fn
    x, w, sums = call.tensor(), call.tensor(), call.tensor()
    groups, samples, parts, channels, per_tile, tiles = (call.number() for _ in range(6))
    x_sample, x_channel, x_row, x_column = (call.number() for _ in range(4))
    w_output, w_channel = call.number(), call.number()
    above = call.tile // tiles
    first = (call.tile - above * tiles) * per_tile
    tile = call.tile - above * tiles
    group = above // parts
    part = above - group * parts
    start = part * spec.samples
    here = fn.minimum(samples - start, spec.samples)
    end = fn.minimum(first + per_tile, channels)
    width = spec.vectors * spec.lanes
    per_sample = spec.windows * width
    sums = sums.at(((tile * groups + group) * samples + start) * per_sample)
    w = w.at(group * spec.outputs * w_output)
    # group g has channels g * channels ... of x; all groups share b
    x = x.at(start * x_sample + group * channels * x_channel)
    turned_w, copy = call.scratch, call.scratch.at(spec.turned)
    high, wide = spec.piece
    plane_rows, plane_columns = spec.plane
    rows, columns = spec.rows, spec.columns

    def piece(c: Value, i: Value, j: Value) -> None:
        """Some rows i and columns j of the window, of one channel."""
        down, across = fn.minimum(rows.kernel - i, high), fn.minimum(columns.kernel - j, wide)
        entry = w.at(c * w_channel + i * columns.kernel + j)
        fn.call("turn", "void", entry, w_output, down * across, turned_w)
        top = i * rows.dilation - rows.low
        left = j * columns.dilation - columns.low if wide < columns.kernel else -columns.low

        def fill(b: Value) -> None:
            base = x.at(b * x_sample + c * x_channel)
            plane = Plane(base, rows, columns, x_row, None if spec.near else x_column, spec.lanes)
            target = copy.at(b * spec.size)

            def line(r: Value) -> None:
                plane.row(target.at(r * plane_columns), top + r, plane_columns, (1, left), 0.0)

            fn.loop(0, plane_rows, 1, (), line)

        fn.loop(0, here, 1, (), fill)

        def ahead(b: Value) -> None:
            """Ask for a share of what the next piece reads."""
            below = (i + high).compare("slt", rows.kernel)
            row = fn.select(below, i + high, fn.value(0, "i64"))
            channel = fn.select(below, c, c + 1)
            top = row * rows.dilation - rows.low
            inside = fn.select(top.compare("sgt", 0), top, fn.value(0, "i64"))
            plane = x.at(b * x_sample + channel * x_channel + inside * x_row)
            if spec.near:
                size = x_row * min(plane_rows, rows.length)
                fn.loop(0, size, _LINE, (), lambda k: fn.prefetch(plane.at(k)))

            def output(o: Value) -> None:
                entries = w.at(o * w_output + channel * w_channel + row * columns.kernel)
                fn.loop(0, high * wide, _LINE, (), lambda k: fn.prefetch(entries.at(k)))

            fn.loop(b, spec.outputs, here, (), output)

        begun = c.compare("eq", first) & i.compare("eq", 0) & j.compare("eq", 0)
        for left_vector, count in _parts(spec.vectors, spec.panel):
            panel = turned_w.at(left_vector * spec.lanes)
            windows, several = shapes[count]
            for begin, _ in windows:

                def block(
                    b: Value,
                    number: int,
                    begin: int = begin,
                    count: int = count,
                    panel: Value = panel,
                    left_vector: int = left_vector,
                ) -> None:
                    target = sums.at(b * per_sample + (begin * width + left_vector * spec.lanes))
                    args = down, across, copy.at(b * spec.size), panel, target, begun
                    fn.call(f"block{count}_{begin}_{number}", "void", *args)
                    if not begin and not left_vector:
                        fn.loop(b, b + number, 1, (), ahead)

                even = here - here % several
                fn.loop(0, even, several, (), lambda b: block(b, several))  # noqa: B023
                if several > 1:
                    fn.loop(even, here, 1, (), lambda b: block(b, 1))

    def channel(c: Value) -> None:
        def down(i: Value) -> None:
            fn.loop(0, columns.kernel, wide, (), lambda j: piece(c, i, j))

        fn.loop(0, rows.kernel, high, (), down)

    fn.loop(first, end, 1, (), channel)
    fn.ret()


def _block(
    module: Module, name: str, spec: WideSpec, count: int, windows: tuple[int, int], samples: int
) -> None:  # fmt: skip
    """A function: a chain for some windows of some samples and ``count`` vectors of outputs.

    ``(rows, columns of the piece, copy, turned w, sums, whether they are the first)``.
    """
    args = (
        ("i64", "down"), ("i64", "across"), ("ptr noalias readonly", "x"),
        ("ptr noalias readonly", "w"), ("ptr noalias", "sums"), ("i1", "first"),
    )  # fmt: skip
    fn = Function(module, name, args, internal=True)
    down, across, x, w, sums, first = fn.args
    lanes, width = spec.lanes, spec.vectors * spec.lanes
    _, columns = spec.plane
    start, size = windows
    step, pitch = spec.columns.dilation, spec.rows.dilation * columns
    places = []  # of each row of the block, in the copy and in the sums
    for b in range(samples):
        for q in range(start, start + size):
            i, j = divmod(q, spec.columns.positions)
            at = b * spec.size + i * spec.rows.stride * columns + j * spec.columns.stride
            places.append((at, (b * spec.windows + q - start) * width))
    rows = len(places)
    registers = 32 if spec.blocks[0] * spec.panel > 16 else 16
    unroll = _UNROLL
    while unroll > 1 and (rows + unroll) * count + 2 > registers:
        unroll //= 2
    zero = fn.value(0.0, vector(lanes, "float"))

    def steps(number: int) -> object:
        def body(_: Value, *carried: Value) -> list[Value]:
            *totals, x, w = carried
            right = [
                [w.load(vector(lanes, "float"), u * width + j * lanes) for j in range(count)]
                for u in range(number)
            ]
            uses: dict[int, list[tuple[int, int]]] = {}
            for u in range(number):
                for place, (at, _sums) in enumerate(places):
                    uses.setdefault(at + u * step, []).append((u, place))
            for at in sorted(uses):
                left = fn.splat(x.load("float", at), lanes)
                for u, place in uses[at]:
                    for j in range(count):
                        k = place * count + j
                        totals[k] = fn.fma(left, right[u][j], totals[k])
            return [*totals, x.at(number * step), w.at(number * width)]

        return body

    def row(_: Value, *carried: Value) -> list[Value]:
        *totals, x, w = carried
        even = across & -unroll
        found = fn.loop(0, even, unroll, [*totals, x, w], steps(unroll))  # type: ignore[arg-type]
        *totals, _, w = fn.loop(even, across, 1, found, steps(1))  # type: ignore[arg-type]
        return [*totals, x.at(pitch), w]

    totals = fn.loop(0, down, 1, [*[zero] * (rows * count), x, w], row)[: rows * count]

    add_chain(sums, totals, [at + j * lanes for _, at in places for j in range(count)], first)
    fn.ret()


def _turn(module: Module, spec: WideSpec) -> None:
    """``turn``: entries of a window of all outputs, to rows with an output in each lane.

    ``(w, stride along outputs, entries, room)``. Outputs past the last repeat it.
    """
    args = (
        ("ptr noalias readonly", "w"), ("i64", "stride"), ("i64", "count"), ("ptr noalias", "room")
    )  # fmt: skip
    fn = Function(module, "turn", args, internal=True)
    w, stride, count, room = fn.args
    lanes, width = spec.lanes, spec.vectors * spec.lanes
    type = vector(lanes, "float")
    for v in range(spec.vectors):
        lines = [w.at(stride * min(v * lanes + lane, spec.outputs - 1)) for lane in range(lanes)]

        def square(k: Value, lines: list[Value] = lines, v: int = v, masked: bool = False) -> None:
            if masked:
                numbers = fn.vector_of(range(lanes), "i32")
                mask = numbers.compare("slt", fn.splat((count - k).convert("trunc", "i32"), lanes))
                found = [fn.masked_load(line.at(k), type, mask) for line in lines]
            else:
                found = [line.load(type, k) for line in lines]
            for q, entry in enumerate(turned(fn, found)):
                room.store(entry, (k + q) * width + v * lanes)

        even = count & -lanes
        fn.loop(0, even, lanes, (), square)
        fn.when(even.compare("slt", count), lambda: square(even, masked=True))  # noqa: B023
    fn.ret()
