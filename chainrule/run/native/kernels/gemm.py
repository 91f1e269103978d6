"""Matrix products: C = A B, and whatever elementwise chain follows them.

A tile is up to ``tile_rows`` rows by one panel of columns (two vectors wide). Blocks of rows pass
over the panel, their sums in registers. K is cut at multiples of 384: each entry of C is a chain of
fused products in the order of k, and the chains are added in order, whatever the threads (decision
11). The finished block lies in the thread's memory, still in L1, when the chain that follows reads
it, and the lines of memory that the chain needs were asked for before the block.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import SIZES, Body, Function, Module, Value, vector
from chainrule.run.native.kernels.calling import CHAIN, Call, add_chain, dot, unraveled
from chainrule.run.native.program import FAR, NEXT, Lanes, Program, compute, constant

UNROLL = 4
# Bytes of a line of the cache.
LINE = 64
# Of rows at multiples of so many numbers, a cache keeps few.
ALIASING = 1024
# From this distance on, what lies along m is asked for early.
FAR_APART = 256
# Blocks of rows in a tile, and in a tile of packing.
BLOCKS_PER_TILE = 24
PACKED_PER_TILE = 4


class GemmSpec(NamedTuple):
    """Key of :func:`gemm`.

    Attributes:
        a: how A lies: ``"rows"`` (along k), ``"columns"`` (along m), ``"packed"`` (by pack).
        lda: elements from one row, or column, of A to the next; 0 if packed.
        b: how B lies: ``"rows"`` (along n), ``"columns"`` (along k) or ``"packed"`` (in panels).
        program: what follows; its step named ``"product"`` is the entry of A B.
        lanes, panel, blocks: the target's shape.
        axes: how many axes the batch has.
    """

    a: str
    lda: int
    b: str
    program: Program
    lanes: int
    panel: int
    blocks: tuple[int, ...]
    axes: int


def gemm(module: Module, name: str, spec: GemmSpec) -> None:
    """Arguments: A, B, operands; m, n, k, rows of a tile, the row length of B; the lengths of the
    batch's axes but the first; strides of A and B along them; for each operand its strides along
    them, along a column, and along a row if FAR.
    """
    for height in spec.blocks:
        block(module, f"block{height}", height, spec)
    if spec.b != "packed":
        _pack(module, spec)
    call = Call(module, name)
    fn, width = call.fn, spec.lanes * spec.panel
    a, b = call.tensor(), call.tensor()
    bases = [call.tensor() for _ in spec.program.operands]
    m, n, k, tile_rows, ldb = (call.number() for _ in range(5))
    lengths = [call.number() for _ in range(spec.axes - 1)]
    a_strides, b_strides = ([call.number() for _ in range(spec.axes)] for _ in range(2))
    panels = (n + (width - 1)) // fn.value(width, "i64")
    high = (m + (tile_rows - 1)) // tile_rows
    above = call.tile // panels
    left = (call.tile - above * panels) * width
    matrix = above // high
    top = (above - matrix * high) * tile_rows
    batch = unraveled(matrix, lengths)
    rows = fn.minimum(m - top, tile_rows)
    cols = fn.minimum(n - left, width)
    a = a.at(dot(batch, a_strides))
    across = {"rows": left, "columns": left * ldb, "packed": left * k}[spec.b]
    b = b.at(dot(batch, b_strides)).at(across)
    room = call.scratch
    sums = room.at(CHAIN * width)
    full = spec.blocks[0]

    following = Following(call, spec, bases, batch, top, left)
    last = fn.select(k.compare("sgt", 0), k, fn.value(1, "i64"))  # one pass if k is 0
    step = fn.select(last.compare("sgt", CHAIN), fn.value(width, "i64"), 0)  # sums are kept, or not

    def chain(start: Value) -> None:
        depth = fn.minimum(k - start, CHAIN)
        panel, apart = b.at(start * width), fn.value(width, "i64")
        if spec.b == "columns":
            panel = room
            fn.call("pack", "void", depth, b.at(start), ldb, cols, room)
        elif spec.b == "rows":
            # A whole panel is read where it is, if its rows do not fall on the same cache lines.
            here = b.at(start * ldb)
            copied = cols.compare("ne", width) | (ldb % ALIASING).compare("eq", 0)
            panel, apart = fn.select(copied, room, here), fn.select(copied, apart, ldb)

            def copy() -> None:
                fn.call("pack", "void", depth, here, ldb, cols, room)

            fn.when(copied, copy)
        first = start.compare("eq", 0)
        is_last = (start + CHAIN).compare("sge", last)

        def one(height: int, row: Value, target: Value) -> None:
            place = top + row
            if spec.a == "packed":
                block = a.at(place * k + start * height)
            elif spec.a == "rows":
                block = a.at(place * spec.lda + start)
            else:
                block = a.at(start * spec.lda + place)
            fn.call(f"block{height}", "void", depth, block, panel, apart, target, first)

        def strip(row: Value) -> None:
            """Some rows; what follows comes at once, its memory is asked for before."""
            count = fn.minimum(rows - row, full)
            target = sums.at(row * step)
            fn.when(is_last, lambda: following.ask(row, count))

            def rest() -> None:
                here = row
                for height in spec.blocks[1:]:
                    place = here

                    def some(height: int = height, place: Value = place) -> None:
                        one(height, place, target.at((place - row) * width))

                    fn.when((count & height).compare("ne", 0), some)
                    here = here + (count & height)

            fn.when(count.compare("eq", full), lambda: one(full, row, target), rest)
            fn.when(is_last, lambda: following.write(row, count, cols, target))

        fn.loop(0, rows, full, (), strip)

    fn.loop(0, last, CHAIN, (), chain)
    fn.ret()


class Rows(Protocol):
    """What :func:`block` is told of A and of the target; see :class:`GemmSpec`."""

    @property
    def a(self) -> str: ...
    @property
    def lda(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def panel(self) -> int: ...


def block(module: Module, name: str, height: int, spec: Rows) -> None:
    """A function: a chain of products for a block of rows, added to what is there.

    ``(depth, a, b, ldb, sums, first)``: b is a panel, its rows ldb apart; sums are rows as long as
    a panel is wide.
    """
    args = (
        ("i64", "depth"), ("ptr noalias readonly", "a"), ("ptr noalias readonly", "b"),
        ("i64", "ldb"), ("ptr noalias", "sums"), ("i1", "first"),
    )  # fmt: skip
    fn = Function(module, name, args, internal=True)
    depth, a, b, ldb, sums, first = fn.args
    type = vector(spec.lanes, "float")
    along_m, along_k = {
        "packed": (1, height), "rows": (spec.lda, 1), "columns": (1, spec.lda)
    }[spec.a]  # fmt: skip

    def products(totals: list[Value], a: Value, b: Value, step: int) -> list[Value]:
        right = [b.at(ldb * step).load(type, spec.lanes * j) for j in range(spec.panel)]
        made = []
        if spec.a == "columns" and spec.lda >= FAR_APART and height >= 6:
            fn.prefetch(a.at(2 * height - 1 + step * along_k))  # for the rows that come next
        for i in range(height):
            left = fn.splat(a.load("float", i * along_m + step * along_k), spec.lanes)
            made += [fn.fma(left, right[j], totals[i * spec.panel + j]) for j in range(spec.panel)]
        return made

    def steps(count: int) -> Body:
        def body(_: Value, *carried: Value) -> list[Value]:
            *totals, a, b = carried
            for step in range(count):
                totals = products(totals, a, b, step)
            return [*totals, a.at(count * along_k), b.at(ldb * count)]

        return body

    zero = fn.value(0.0, type)
    even = depth & -UNROLL
    found = fn.loop(0, even, UNROLL, [zero] * (height * spec.panel) + [a, b], steps(UNROLL))
    found = fn.loop(even, depth, 1, found, steps(1))
    totals = found[:-2]

    add_chain(sums, totals, range(0, len(totals) * spec.lanes, spec.lanes), first)
    fn.ret()


# ------------------------------------------------------------------------------ packing B


class PanelsSpec(NamedTuple):
    """Key of :func:`pack_b`: how B lies (``"rows"`` or ``"columns"``), and the target's shape."""

    b: str
    lanes: int
    panel: int


def pack_b(module: Module, name: str, spec: PanelsSpec) -> None:
    """All panels of B one after the other. Arguments: B, packed; n, k, ldb. A tile is a panel."""
    _pack(module, spec)
    call = Call(module, name)
    b, packed = call.tensor(), call.tensor()
    n, k, ldb = (call.number() for _ in range(3))
    width = spec.lanes * spec.panel
    left = call.tile * width
    cols = call.fn.minimum(n - left, width)
    b = b.at(left if spec.b == "rows" else left * ldb)
    call.fn.call("pack", "void", k, b, ldb, cols, packed.at(left * k))
    call.fn.ret()


class Panels(Protocol):
    """The shape of a panel: so many vectors of so many lanes."""

    @property
    def lanes(self) -> int: ...
    @property
    def panel(self) -> int: ...


def _pack(module: Module, spec: GemmSpec | PanelsSpec) -> None:
    """``pack``: some rows of one panel of B."""
    (pack_rows if spec.b == "rows" else pack_columns)(module, "pack", spec)


_PACK = (
    ("i64", "depth"), ("ptr noalias readonly", "b"), ("i64", "ldb"), ("i64", "cols"),
    ("ptr noalias", "panel"),
)  # fmt: skip


def pack_rows(module: Module, name: str, spec: Panels) -> None:
    """A panel of a B that lies along n; columns past the last become 0."""
    fn = Function(module, name, _PACK, internal=True)
    depth, b, ldb, cols, panel = fn.args
    width = spec.lanes * spec.panel

    def rows(parts: list[Lanes]) -> None:
        def one(_: Value, b: Value, panel: Value) -> list[Value]:
            for j, part in enumerate(parts):
                at = fn.value(j * spec.lanes, "i64")
                panel.store(part.load(b, "float32", NEXT, at), at)
            return [b.at(ldb), panel.at(width)]

        fn.loop(0, depth, 1, [b, panel], one)

    def ragged() -> None:
        rows([Lanes(fn, spec.lanes, cols - j * spec.lanes) for j in range(spec.panel)])

    every = Lanes(fn, spec.lanes)
    fn.when(cols.compare("eq", width), lambda: rows([every] * spec.panel), ragged)
    fn.ret()


def pack_columns(module: Module, name: str, spec: Panels) -> None:
    """A panel of a B that lies along k, turned; columns past the last repeat the last."""
    fn = Function(module, name, _PACK, internal=True)
    depth, b, ldb, cols, panel = fn.args
    lanes, width = spec.lanes, spec.lanes * spec.panel
    type = vector(lanes, "float")
    starts = []
    for column in range(width):
        inside = fn.minimum(fn.value(column, "i64"), cols - 1) if column else 0
        starts.append(b.at(inside * ldb if isinstance(inside, Value) else 0))

    def square(k: Value) -> None:
        for j in range(spec.panel):
            lines = [start.load(type, k) for start in starts[j * lanes : (j + 1) * lanes]]
            for q, line in enumerate(turned(fn, lines)):
                panel.store(line, (k + q) * width + j * lanes)

    def single(k: Value) -> None:
        for column, start in enumerate(starts):
            panel.store(start.load("float", k), k * width + column)

    even = depth & -lanes
    fn.loop(0, even, lanes, (), square)
    fn.loop(even, depth, 1, (), single)
    fn.ret()


def turned(fn: Function, lines: list[Value]) -> list[Value]:
    """The transpose of a square of vectors: halves exchanged at distances 1, 2, 4 ..."""
    lanes, distance = len(lines), 1
    while distance < lanes:
        low = [i if not i & distance else i - distance + lanes for i in range(lanes)]
        high = [i + distance if not i & distance else i + lanes for i in range(lanes)]
        new = list(lines)
        for i in range(lanes):
            if not i & distance:
                a, b = lines[i], lines[i + distance]
                new[i], new[i + distance] = fn.shuffle(a, b, low), fn.shuffle(a, b, high)
        lines, distance = new, distance * 2
    return lines


# ------------------------------------------------------------------------------ packing A


class PackSpec(NamedTuple):
    """Key of :func:`pack_a`: how A lies (``"rows"`` or ``"columns"``), and the target's blocks."""

    a: str
    blocks: tuple[int, ...]


def pack_a(module: Module, name: str, spec: PackSpec) -> None:
    """A in blocks of rows, each k by its height: the order in which a block reads it.

    Arguments: A, packed; m, k, lda, stride of A along the batch, tiles per matrix.
    """
    call = Call(module, name)
    fn = call.fn
    a, packed = call.tensor(), call.tensor()
    m, k, lda, a_batch, tiles = (call.number() for _ in range(5))
    batch = call.tile // tiles
    full = spec.blocks[0]
    top = (call.tile - batch * tiles) * (full * PACKED_PER_TILE)
    end = fn.minimum(top + full * PACKED_PER_TILE, m)
    a, packed = a.at(batch * a_batch), packed.at(batch * (m * k))

    def one(height: int, row: Value) -> None:
        target = packed.at(row * k)

        def step(_: Value, source: Value, target: Value) -> list[Value]:
            if spec.a == "columns":
                target.store(source.load(vector(height, "float")))
                return [source.at(lda), target.at(height)]
            for i in range(height):
                target.store(source.at(lda * i).load("float"), i)
            return [source.at(1), target.at(height)]

        start = a.at(row if spec.a == "columns" else row * lda)
        fn.loop(0, k, 1, [start, target], step)

    whole = end - (end - top) % full
    fn.loop(top, whole, full, (), lambda row: one(full, row))
    row, rest = whole, end - whole
    for height in spec.blocks[1:]:

        def some(height: int = height, row: Value = row) -> None:
            one(height, row)

        fn.when((rest & height).compare("ne", 0), some)
        row = row + (rest & height)
    fn.ret()


# ------------------------------------------------------------------------------ what follows


class Chained(Panels, Protocol):
    """What :class:`Following` is told: the chain, and how many axes the batch has."""

    @property
    def program(self) -> Program: ...
    @property
    def axes(self) -> int: ...


class Following:
    """The elementwise chain on a finished tile."""

    def __init__(
        self, call: Call, spec: Chained, bases: list[Value], batch: list[Value], top: Value,
        left: Value,
    ) -> None:  # fmt: skip
        self.fn, self.spec, self.program = call.fn, spec, spec.program
        self.left = left
        self.is_row = spec.program.is_row()
        self.starts: list[Value] = []
        self.row_strides: list[Value] = []
        self.col_strides: list[Value | None] = []
        for base, operand in zip(bases, spec.program.operands, strict=True):
            along_batch = [call.number() for _ in range(spec.axes)]
            along_column = call.number()
            along_row = call.number() if operand.column == FAR else None
            element = IN_MEMORY[operand.dtype]
            self.starts.append(base.at(dot(batch, along_batch) + top * along_column, element))
            self.row_strides.append(along_column)
            self.col_strides.append(along_row)

    def ask(self, top: Value, rows: Value) -> None:
        """Bring the rows of every tensor that is read or written nearer."""
        fn, width = self.fn, self.spec.lanes * self.spec.panel
        written = {operand for _, operand in self.program.stores}

        def one(row: Value) -> None:
            for i, operand in enumerate(self.program.operands):
                element = IN_MEMORY[operand.dtype]
                if operand.column != NEXT:
                    continue
                place = self.starts[i].at((top + row) * self.row_strides[i] + self.left, element)
                for byte in range(0, width * SIZES[element], LINE):
                    fn.prefetch(place.at(byte, "i8"), i in written)

        fn.loop(0, rows, 1, (), one)

    def write(self, top: Value, rows: Value, cols: Value, sums: Value) -> None:
        """The chain on some rows from ``top`` on, whose sums are given."""
        fn, lanes = self.fn, self.spec.lanes
        width = lanes * self.spec.panel
        every = Lanes(fn, lanes)

        def full_row(row: Value) -> None:
            starts, known = self._row(top + row, every)
            for j in range(self.spec.panel):
                at = fn.value(j * lanes, "i64")
                self._vector(starts, known, every, sums.at(row * width), at)

        def ragged_row(row: Value) -> None:
            starts, known = self._row(top + row, every)

            def part(at: Value) -> None:
                some = Lanes(fn, lanes, cols - at)
                self._vector(starts, known, some, sums.at(row * width), at)

            fn.loop(0, cols, lanes, (), part)

        fn.when(
            cols.compare("eq", width),
            lambda: fn.loop(0, rows, 1, (), full_row),
            lambda: fn.loop(0, rows, 1, (), ragged_row),
        )

    def _row(self, row: Value, lanes: Lanes) -> tuple[list[Value], dict[int, Value]]:
        starts = [
            start.at(row * stride, IN_MEMORY[operand.dtype])
            for start, stride, operand in zip(
                self.starts, self.row_strides, self.program.operands, strict=True
            )
        ]
        known: dict[int, Value] = {}
        for index, step in enumerate(self.program.steps):
            if not self.is_row[index]:
                continue
            if step.op == "constant":
                known[index] = constant(self.fn, step, self.spec.lanes)
            elif step.op == "load":
                known[index] = self._load(starts, index, lanes, self.left)
            else:
                compute(self.program, [index], known)
        return starts, known

    def _load(self, starts: list[Value], index: int, lanes: Lanes, at: Value) -> Value:
        operand = self.program.steps[index].operand
        dtype, column, _ = self.program.operands[operand]
        return lanes.load(starts[operand], dtype, column, at, self.col_strides[operand])

    def _vector(
        self, starts: list[Value], row_known: dict[int, Value], lanes: Lanes, sums: Value, at: Value
    ) -> None:
        known = dict(row_known)
        column = self.left + at
        for index, step in enumerate(self.program.steps):
            if step.op == "product":
                known[index] = sums.load(vector(self.spec.lanes, "float"), at)
            elif index in known:
                continue
            elif step.op == "load":
                known[index] = self._load(starts, index, lanes, column)
            else:
                compute(self.program, [index], known)
        for index, operand in self.program.stores:
            place = self.program.operands[operand].column
            stride = self.col_strides[operand]
            lanes.store(starts[operand], known[index], place, column, stride)
