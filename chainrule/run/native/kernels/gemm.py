"""Matrix products: C = A B, and whatever elementwise chain follows them.

A tile is up to ``tile_rows`` rows by a few panels of columns (two vectors wide each). Blocks of
rows pass over a panel, their sums in registers. K is cut at multiples of 384: each entry of C is a
chain of fused products in the order of k, and the chains are added in order, whatever the threads
(decision 11). All panels of a tile take one chain before the next, so that its part of A comes from
memory once; where K is one chain, all panels take a few rows before the next, so that what follows
goes along memory. The finished block lies in the thread's memory, still in L1, when the elementwise
chain reads it; a light one finds it in registers. The lines of memory that the chain needs were
asked for amid the block's products, row by row: many at once have to wait for each other. What long
products read next is asked for while they run, too.

Where weights lie along k and the batch is small, the transpose is computed: then it is the batch
that is packed, the weights are read where they are, and what is finished is turned. An entry is the
same chain of products either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.blocks import UNROLL, block, products
from chainrule.run.native.kernels.calling import CHAIN, LINE_NUMBERS, Call, dot, unraveled
from chainrule.run.native.kernels.following import Following, following
from chainrule.run.native.kernels.packing import in_blocks, pack, turned
from chainrule.run.native.program import NEXT, Program

# Of rows at multiples of so many numbers, a cache keeps few.
ALIASING = 1024
# With fewer products than this a block is done before memory answers.
SOON = 64
# Blocks of rows in a tile.
BLOCKS_PER_TILE = 24
# Vectors side by side in the rows that follow a turned product.
TURNED = 2


class GemmSpec(NamedTuple):
    """Key of :func:`gemm`.

    Attributes:
        a: how A lies: ``"rows"`` (along k), ``"columns"`` (along m), ``"packed"`` (by pack_a), or
            ``"gathered"``: along m, and the blocks of a tile's first panel pack what they read.
        lda: elements from one row, or column, of A to the next; 0 if packed.
        b: how B lies: ``"rows"`` (along n), ``"columns"`` (along k) or ``"packed"`` (in panels).
        program: what follows; its step named ``"product"`` is the entry of A B.
        lanes, panel, blocks: the target's shape.
        axes: how many axes the batch has.
        light: K is one chain, and what follows a whole block is done on its sums in registers.
        asks: a whole block asks for the memory of what follows it amid its products.
        by_rows: K is one chain, and some rows pass over all panels of a tile before the next do.
        turned: the chain sees C turned: its rows are the product's columns.
    """

    a: str
    lda: int
    b: str
    program: Program
    lanes: int
    panel: int
    blocks: tuple[int, ...]
    axes: int
    light: bool = False
    asks: bool = False
    by_rows: bool = False
    turned: bool = False


def gemm(module: Module, name: str, spec: GemmSpec) -> None:
    """Arguments: A, B, operands; m, n, k, rows and panels of a tile, the row length of B; the
    lengths of the batch's axes but the first; strides of A and B along them; for each operand its
    strides along them, along a column, and along a row if FAR.
    """
    for height in spec.blocks:
        block(module, f"block{height}", height, spec, _asked(spec))
        if spec.a == "gathered":
            along_m = spec._replace(a="columns")
            block(module, f"gather{height}", height, along_m, _asked(spec), gathers=True)
    if spec.b != "packed":
        pack(module, spec.b, spec)
    if spec.light:
        _light(module, spec)
    elif spec.asks:
        _asking(module, spec)
    if spec.turned:
        _turn(module, spec)
    call = Call(module, name)
    call.fn.align_stack()
    fn, width = call.fn, spec.lanes * spec.panel
    a, b = call.tensor(), call.tensor()
    bases = [call.tensor() for _ in spec.program.operands]
    m, n, k, tile_rows, abreast, ldb = (call.number() for _ in range(6))
    lengths = [call.number() for _ in range(spec.axes - 1)]
    a_strides, b_strides = ([call.number() for _ in range(spec.axes)] for _ in range(2))
    tile_cols = abreast * width
    across = (n + (tile_cols - 1)) // tile_cols
    high = (m + (tile_rows - 1)) // tile_rows
    above = call.tile // across
    first_col = (call.tile - above * across) * tile_cols
    matrix = above // high
    top = (above - matrix * high) * tile_rows
    batch = unraveled(matrix, lengths)
    rows = fn.minimum(m - top, tile_rows)
    end_col = fn.minimum(first_col + tile_cols, n)
    a = a.at(dot(batch, a_strides))
    b = b.at(dot(batch, b_strides))
    room = call.scratch
    sums = room.at(tile_cols * CHAIN if spec.by_rows else CHAIN * width)
    gathered = sums.at(tile_rows * tile_cols)
    full = spec.blocks[0]

    if spec.turned:
        rest = following(call, spec._replace(panel=TURNED), bases, batch)
        strip_rows = TURNED * spec.lanes  # that are written at once
    else:
        rest, strip_rows = following(call, spec, bases, batch), full
    last = fn.select(k.compare("sgt", 0), k, fn.value(1, "i64"))  # one pass if k is 0
    step = fn.select(last.compare("sgt", CHAIN), fn.value(1, "i64"), 0)  # sums are kept, or not

    def chain(start: Value) -> None:
        depth = fn.minimum(k - start, CHAIN)
        first = start.compare("eq", 0)
        is_last = (start + CHAIN).compare("sge", last)

        def rows_of_a(height: int, row: Value) -> Value:
            if spec.a == "gathered":
                return gathered.at(row * depth)
            place = top + row
            if spec.a == "packed":
                return a.at(place * k + start * height)
            if spec.a == "rows":
                return a.at(place * spec.lda + start)
            return a.at(start * spec.lda + place)

        def coming(row: Value, left: Value) -> list[Value]:
            """What a block asks for: a part of A's next chain, and of the next panel of B."""
            if spec.a != "gathered":
                return []
            turns, right = depth // UNROLL, left + width

            def stream(place: Value, apart: Value, exists: Value) -> list[Value]:
                return [fn.select(exists, place, room), fn.select(exists, apart, 0)]

            here = start + CHAIN + (left - first_col) // width * turns
            place = a.at(here * spec.lda + (top + row))
            found = stream(place, fn.value(spec.lda, "i64"), here.compare("slt", k))
            if spec.b == "rows":
                part = row // full * (turns // _asked(spec)[1])
                more = right.compare("slt", end_col)
                here = fn.select(more, start, start + CHAIN) + part
                place = b.at(here * ldb + fn.select(more, right, first_col))
                found += stream(place, ldb, part.compare("slt", depth) & here.compare("slt", k))
            return found

        def panel_at(left: Value) -> _Panel:
            place = room.at((left - first_col) * CHAIN) if spec.by_rows else room
            cols = fn.minimum(end_col - left, width)
            return _Panel(fn, spec, b, (left, cols), (start, depth, k), ldb, place)

        def operands_at(row: Value, wanted: Sequence[int]) -> list[Value]:
            starts = rest.at(top + row)
            return [x for i in wanted for x in (starts[i], rest.row_strides[i])]

        def visit(row: Value, left: Value, panel: _Panel) -> None:
            """Some rows, one panel, and what follows; its memory is asked for before."""
            count, cols = fn.minimum(rows - row, strip_rows), panel.cols
            is_whole = count.compare("eq", full) & cols.compare("eq", width)
            target = sums.at(((left - first_col) * tile_rows + row * width) * step)

            def arguments(height: int, row: Value, target: Value) -> list[Value]:
                """Those of a block of products."""
                streams = coming(row, left)
                return [depth, rows_of_a(height, row), *panel.place, target, first, *streams]

            def ask() -> None:
                if spec.turned:
                    rest.ask(left, top + row, cols)
                else:
                    rest.ask(top + row, left, count)

            def write() -> None:
                if spec.turned:
                    fn.call("turn", "void", target, room)
                    rest.write(left, top + row, cols, count, room)
                else:
                    rest.write(top + row, left, count, cols, target)

            def one(height: int, place: Value) -> None:
                args = arguments(height, row + place, target.at(place * width))

                def usual() -> None:
                    fn.call(f"block{height}", "void", *args)

                def gather() -> None:
                    """Where A is, copied to where it is packed."""
                    depth, copy, *more = args
                    here = a.at(start * spec.lda + (top + row + place))
                    fn.call(f"gather{height}", "void", depth, here, *more, copy)

                if spec.a == "gathered":
                    fn.when(left.compare("eq", first_col), gather, usual)
                else:
                    usual()

            def usual() -> None:
                fn.when(is_last & k.compare("sge", SOON), ask)
                in_blocks(fn, spec.blocks, count)(one)
                fn.when(is_last, write)

            def in_registers() -> None:
                block = rows_of_a(full, row)
                places = operands_at(row, range(len(bases)))
                fn.call("light", "void", depth, block, *panel.place, left, *places)

            def asking() -> None:
                places = operands_at(row, _wide(spec))
                fn.call("asking", "void", *arguments(full, row, target), left, *places)
                write()

            if spec.light:
                fn.when(is_whole, in_registers, usual)
            elif spec.asks:
                is_packed = left.compare("ne", first_col) | int(spec.a != "gathered")
                fn.when(is_last & is_whole & is_packed, asking, usual)
            else:
                usual()

        def over(left: Value) -> None:
            panel = panel_at(left)
            panel.copy()
            if not spec.by_rows:
                fn.loop(0, rows, strip_rows, (), lambda row: visit(row, left, panel))

        def along(row: Value) -> None:
            fn.loop(first_col, end_col, width, (), lambda left: visit(row, left, panel_at(left)))

        fn.loop(first_col, end_col, width, (), over)
        if spec.by_rows:
            fn.loop(0, rows, strip_rows, (), along)

    fn.loop(0, last, CHAIN, (), chain)
    fn.ret()


def _asked(spec: GemmSpec) -> tuple[int, ...]:
    """What a block asks for of A and of B while it runs: so many lines side by side at a time."""
    if spec.a != "gathered":
        return ()
    return (1, -(-spec.lanes * spec.panel // LINE_NUMBERS)) if spec.b == "rows" else (1,)


class _Panel:
    """One chain's part of a panel of B.

    Attributes:
        cols: its columns.
        place: where it is, and how far apart its rows are.
    """

    def __init__(
        self, fn: Function, spec: GemmSpec, b: Value, columns: tuple[Value, Value],
        chain: tuple[Value, Value, Value], ldb: Value, room: Value,
    ) -> None:  # fmt: skip
        """Columns: the first one, and how many. Of the chain: its start, its length, and k."""
        (left, self.cols), (start, self._depth, k) = columns, chain
        self._fn, self._ldb, self._room = fn, ldb, room
        width = spec.lanes * spec.panel
        packed = fn.value(width, "i64")
        self._copied: Value | None = None
        if spec.b == "packed":
            self.place = b.at(left * k + start * width), packed
        elif spec.b == "columns":
            self._copied, self._from = fn.value(1, "i1"), b.at(left * ldb + start)
            self.place = room, packed
        else:  # a whole one is read where it is, if its rows do not fall on the same cache lines
            self._from = here = b.at(start * ldb + left)
            aliases = (ldb % ALIASING).compare("eq", 0)
            self._copied = copied = self.cols.compare("ne", width) | aliases
            self.place = fn.select(copied, room, here), fn.select(copied, packed, ldb)

    def copy(self) -> None:
        """Bring it into the thread's memory, if it is to be there."""
        fn = self._fn

        def pack() -> None:
            fn.call("pack", "void", self._depth, self._from, self._ldb, self.cols, self._room)

        if self._copied is not None:
            fn.when(self._copied, pack)


def _turn(module: Module, spec: GemmSpec) -> None:
    """``turn``: the transpose of the rows that are written at once."""
    args = (("ptr noalias readonly", "sums"), ("ptr noalias", "target"))
    fn = Function(module, "turn", args, internal=True)
    sums, target = fn.args
    lanes, width, height = spec.lanes, spec.lanes * spec.panel, spec.lanes * TURNED
    for row in range(0, height, lanes):
        for column in range(0, width, lanes):
            places = [(row + i) * width + column for i in range(lanes)]
            lines = [sums.load(vector(lanes, "float"), place) for place in places]
            for i, line in enumerate(turned(fn, lines)):
                target.store(line, (column + i) * height + row)
    fn.ret()


def _wide(spec: GemmSpec) -> list[int]:
    """The operands that have a number for each column."""
    return [i for i, operand in enumerate(spec.program.operands) if operand.column == NEXT]


def _light(module: Module, spec: GemmSpec) -> None:
    """``light``: a whole block of one chain, and what follows it on its sums in registers.

    ``(depth, a, b, ldb, left)``, and for each operand where its first row starts, and its stride.
    """
    numbers = range(len(spec.program.operands))
    args = [("i64", "depth"), ("ptr noalias readonly", "a"), ("ptr noalias readonly", "b")]
    args += [("i64", "ldb"), ("i64", "left"), *_places(numbers)]
    fn = Function(module, "light", args, internal=True)
    depth, a, b, ldb, left, *places = fn.args
    rest = Following(fn, spec, places[::2], places[1::2], [None] * len(numbers))
    ask = (lambda row: rest.ask_row(row, left)) if spec.asks else None
    totals = products(fn, spec.blocks[0], spec, depth, a, b, ldb, piece=ask)
    rest.write_now(left, totals)
    fn.ret()


def _asking(module: Module, spec: GemmSpec) -> None:
    """``asking``: a whole block that asks, row by row, for the memory of what follows it.

    ``(..., left)``, and the same for each operand that has a number for each column.
    """
    wide = _wide(spec)
    operands = tuple(spec.program.operands[i] for i in wide)
    stores = tuple((step, wide.index(i)) for step, i in spec.program.stores if i in wide)
    asked = spec._replace(program=Program((), operands, stores))

    def work(fn: Function, left: Value, *places: Value) -> Callable[[Value], None]:
        rest = Following(fn, asked, places[::2], places[1::2], [None] * len(wide))
        return lambda row: rest.ask_row(row, left)

    more = [("i64", "left"), *_places(wide)]
    block(module, "asking", spec.blocks[0], spec, _asked(spec), more, amid=work)


def _places(operands: Sequence[int]) -> list[tuple[str, str]]:
    """Arguments: for each of them where its first row starts, and its stride."""
    return [arg for i in operands for arg in (("ptr", f"start{i}"), ("i64", f"stride{i}"))]
