"""Convolution with few windows: the gradient of a kernel, where a window is a whole image.

    y[b, o, q] = sum over c, k of  w[o, c, k] x[b, c, q stride + k dilation - low]

Here (b, q) are many small rows, o stands in vectors, and the sum is long. In a kernel's gradient
b is a channel and c a sample of the batch. For each c the planes of all b are copied, padded, and w
is turned, so that the outputs of an entry lie side by side. A chain of products runs over up to 384
entries of a window; chains are added in order to the sums of the tile, and a last task adds the
sums of the tiles in order.

Planes are short, and no processor foresees where the next one is: the loops of products ask for
those of the next c.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.calling import CHAIN, LINE_NUMBERS, Call, add_chain
from chainrule.run.native.kernels.packing import turned
from chainrule.run.native.kernels.windows import Axis, Plane

# Entries of a window that are written out side by side, at most.
_UNROLL = 4


class Part(NamedTuple):
    """Blocks of the same vectors of outputs and the same windows.

    Attributes:
        left, vectors: the first vector, and how many.
        window, windows: the first window, and how many.
        several: samples of a block.
    """

    left: int
    vectors: int
    window: int
    windows: int
    several: int

    def name(self, samples: int) -> str:
        """Of the function that computes such a block of so many samples."""
        return f"block{self.vectors}_{self.window}_{samples}"


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
    def margin(self) -> int:
        """As :meth:`Axis.margin`, of the columns."""
        whole = self.piece[1] == self.columns.kernel
        return self.columns.margin(self.lanes) if whole and self.near else 0

    @property
    def before(self) -> int:
        """Entries of padding before a row of the copy."""
        return self.margin or self.columns.low

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of the copy of a plane."""
        (high, wide), rows, columns = self.piece, self.rows, self.columns
        across = (wide - 1) * columns.dilation + (columns.positions - 1) * columns.stride + 1
        return (
            (high - 1) * rows.dilation + (rows.positions - 1) * rows.stride + 1,
            self.margin + columns.length if self.margin else across,
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
    def parts(self) -> list[Part]:
        """The blocks of a piece."""
        full = self.blocks[0] * self.panel
        found = []
        for left, vectors in _parts(self.vectors, self.panel):
            windows = _parts(self.windows, full // vectors)
            several = max(1, (full - 2) // vectors // self.windows) if len(windows) == 1 else 1
            found += [Part(left, vectors, start, size, several) for start, size in windows]
        return found

    @property
    def calls(self) -> list[int]:
        """How many calls each of the parts takes for all samples."""
        return [-(-self.samples // part.several) for part in self.parts]

    @property
    def shares(self) -> tuple[int, int]:
        """Numbers of x and of w, of the next channel, that a call asks for."""
        high, wide = self.piece
        calls = sum(self.calls) * -(-self.rows.kernel // high) * -(-self.columns.kernel // wide)
        x = self.samples * self.rows.length * self.columns.length
        w = self.outputs * self.rows.kernel * self.columns.kernel
        return -(-x // calls), -(-w // calls)

    @property
    def room(self) -> int:
        """Numbers of the thread's memory."""
        return self.turned + self.samples * self.size + self.margin


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
    for part in spec.parts:
        for several in {part.several, 1}:
            if not module.has(part.name(several)):
                _block(module, part.name(several), spec, part, several)
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
    start = (above - group * parts) * spec.samples
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
        left = j * columns.dilation - columns.low if wide < columns.kernel else -spec.before

        def fill(b: Value) -> None:
            base = x.at(b * x_sample + c * x_channel)
            plane = Plane(base, rows, columns, x_row, None if spec.near else x_column, spec.lanes)
            target = copy.at(b * spec.size)

            def line(r: Value) -> None:
                plane.row(target.at(r * plane_columns), top + r, plane_columns, (1, left), 0.0)

            fn.loop(0, plane_rows, 1, (), line)
            if spec.margin:
                behind_last = fn.value(0.0, vector(spec.margin, "float"))
                target.store(behind_last, spec.size)

        begun = c.compare("eq", first) & i.compare("eq", 0) & j.compare("eq", 0)
        number = (i * columns.kernel + j) // fn.value(high * wide, "i64") * sum(spec.calls)
        # w past the tile may be no one's: a tandem has one slice of it
        following = (c + 1) * x_channel, fn.minimum(c + 1, end - 1) * w_channel
        ahead = [
            base.at(place + number * share)
            for base, place, share in zip((x, w), following, spec.shares, strict=True)
        ]

        def blocks(part: Part, before: int) -> None:
            panel = turned_w.at(part.left * spec.lanes)
            target = sums.at(part.window * width + part.left * spec.lanes)

            def block(b: Value, several: int) -> None:
                if not before:
                    fn.loop(b, b + several, 1, (), fill)
                nth = b // fn.value(part.several, "i64") + before
                fn.call(
                    part.name(several), "void", down, across, copy.at(b * spec.size), panel,
                    target.at(b * per_sample), begun,
                    *[place.at(nth * n) for place, n in zip(ahead, spec.shares, strict=True)],
                )  # fmt: skip

            even = here - here % part.several
            fn.loop(0, even, part.several, (), lambda b: block(b, part.several))
            if part.several > 1:
                fn.loop(even, here, 1, (), lambda b: block(b, 1))

        before = 0
        for part, calls in zip(spec.parts, spec.calls, strict=True):
            blocks(part, before)
            before += calls

    def channel(c: Value) -> None:
        def down(i: Value) -> None:
            fn.loop(0, columns.kernel, wide, (), lambda j: piece(c, i, j))

        fn.loop(0, rows.kernel, high, (), down)

    fn.loop(first, end, 1, (), channel)
    fn.ret()


def _block(module: Module, name: str, spec: WideSpec, part: Part, samples: int) -> None:
    """A function: a chain for the windows of some samples.

    ``(rows, columns of the piece, copy, turned w, sums, whether they are the first, what is asked
    for of x and of w)``.
    """
    args = (
        ("i64", "down"), ("i64", "across"), ("ptr noalias readonly", "x"),
        ("ptr noalias readonly", "w"), ("ptr noalias", "sums"), ("i1", "first"),
        ("ptr", "next_x"), ("ptr", "next_w"),
    )  # fmt: skip
    fn = Function(module, name, args, internal=True)
    down, across, x, w, sums, first, *ahead = fn.args
    lanes, width, count = spec.lanes, spec.vectors * spec.lanes, part.vectors
    high, wide = spec.piece
    _, columns = spec.plane
    step, pitch = spec.columns.dilation, spec.rows.dilation * columns
    places = []  # of each row of the block, in the copy and in the sums
    for b in range(samples):
        for q in range(part.windows):
            i, j = divmod(part.window + q, spec.columns.positions)
            at = b * spec.size + i * spec.rows.stride * columns + j * spec.columns.stride
            at += spec.before - spec.columns.low
            places.append((at, (b * spec.windows + q) * width))
    rows = len(places)
    registers = 32 if spec.blocks[0] * spec.panel > 16 else 16
    unroll = _UNROLL
    while unroll > 1 and (rows + unroll) * count + 2 > registers:
        unroll //= 2
    zero = fn.value(0.0, vector(lanes, "float"))

    def steps(number: int) -> object:
        asked = [-(-share * number // (high * wide)) for share in spec.shares]

        def body(_: Value, *carried: Value) -> list[Value]:
            *totals, x, w, next_x, next_w = carried
            for base, size in zip((next_x, next_w), asked, strict=True):
                for k in range(0, size, LINE_NUMBERS):
                    fn.prefetch(base.at(k))
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
            moved = [x.at(number * step), w.at(number * width)]
            return [*totals, *moved, next_x.at(asked[0]), next_w.at(asked[1])]

        return body

    def row(_: Value, *carried: Value) -> list[Value]:
        *totals, x, w, next_x, next_w = carried
        even = across & -unroll
        found = [*totals, x, w, next_x, next_w]
        found = fn.loop(0, even, unroll, found, steps(unroll))  # type: ignore[arg-type]
        found = fn.loop(even, across, 1, found, steps(1))  # type: ignore[arg-type]
        *totals, _, w, next_x, next_w = found
        return [*totals, x.at(pitch), w, next_x, next_w]

    found = fn.loop(0, down, 1, [*[zero] * (rows * count), x, w, *ahead], row)
    totals = found[: rows * count]
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
