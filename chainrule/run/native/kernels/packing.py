"""Operands of matrix products, copied into the order in which a block of rows reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.program import NEXT, Lanes

# Blocks of rows in a tile of packing.
PACKED_PER_TILE = 4

# ------------------------------------------------------------------------------ packing B


class PanelsSpec(NamedTuple):
    """Key of :func:`pack_b`: how B lies (``"rows"`` or ``"columns"``), and the target's shape."""

    b: str
    lanes: int
    panel: int


def pack_b(module: Module, name: str, spec: PanelsSpec) -> None:
    """All panels of B one after the other. Arguments: B, packed; n, k, ldb. A tile is a panel."""
    pack(module, spec.b, spec)
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


def pack(module: Module, b: str, spec: Panels) -> None:
    """``pack``: some rows of one panel of B."""
    (pack_rows if b == "rows" else pack_columns)(module, "pack", spec)


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
    rows = fn.minimum(m - top, full * PACKED_PER_TILE)
    source = a.at(batch * a_batch + (top if spec.a == "columns" else top * lda))
    target = packed.at(batch * (m * k) + top * k)
    pack_blocks(fn, spec.a, spec.blocks, source, lda, target, rows, k)
    fn.ret()


def in_blocks(
    fn: Function, blocks: Sequence[int], rows: Value
) -> Callable[[Callable[[int, Value], None]], None]:
    """How to do something to rows: ``(height, row)`` for whole blocks, then for one of each smaller
    height that is left.
    """
    full = blocks[0]
    odd = rows % full
    whole = rows - odd

    def each(do: Callable[[int, Value], None]) -> None:
        row = whole
        fn.loop(0, row, full, (), partial(do, full))
        for height in blocks[1:]:
            fn.when((odd & height).compare("ne", 0), partial(do, height, row))
            row = row + (odd & height)

    return each


def pack_blocks(
    fn: Function, order: str, blocks: Sequence[int], a: Value, lda: Value | int, packed: Value,
    rows: Value, depth: Value,
) -> None:  # fmt: skip
    """Some rows of A in blocks of rows, each k by its height."""
    each_block = in_blocks(fn, blocks, rows)

    def turn(height: int, row: Value) -> None:
        """A block of an A that lies along k."""

        def step(_: Value, source: Value, target: Value) -> list[Value]:
            for i in range(height):
                target.store(source.at(lda * i).load("float"), i)
            return [source.at(1), target.at(height)]

        fn.loop(0, depth, 1, [a.at(row * lda), packed.at(row * depth)], step)

    def line(k: Value, source: Value) -> list[Value]:
        """One k of all blocks of an A that lies along m: memory answers soonest in its order."""

        def part(height: int, row: Value) -> None:
            target = packed.at(row * depth + k * height)
            target.store(source.at(row).load(vector(height, "float")))

        each_block(part)
        return [source.at(lda)]

    if order == "columns":
        fn.loop(0, depth, 1, [a], line)
    else:
        each_block(turn)
