"""What the two kernels of attention are made of: their arguments, operands and products.

Matrices of a block lie in the thread's memory, or in the arena, where their rows are whole panels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.run.native.ir import SIZES, Module, Value, vector
from chainrule.run.native.kernels.blocks import block
from chainrule.run.native.kernels.calling import SCRATCH_BYTES, Call, dot, unraveled
from chainrule.run.native.kernels.packing import in_blocks, pack_columns, pack_rows
from chainrule.run.native.program import NEXT, SAME, Lanes

# Queries and keys in a block, and the widest query, key or value.
BLOCK, WIDEST = 64, 256
# Room for a matrix of a block, with the columns that a last panel has too many.
TILE = (BLOCK + 16) * (WIDEST + 16)
# A right operand with rows this far apart, or at multiples of it, is copied: a small cache keeps
# few of them.
_ALIASING = 256


class AttentionSpec(NamedTuple):
    """Key of both kernels.

    Attributes:
        scale: of the scores.
        causal: query i looks at keys up to i.
        lda: elements from row to row of the left operands: of the keys, or of the queries and dy.
        axes: of the batch.
        lanes, panel, blocks: the target's shape.
    """

    scale: float
    causal: bool
    lda: tuple[int, ...]
    axes: int
    lanes: int
    panel: int
    blocks: tuple[int, ...]


class _Left(NamedTuple):
    """How the left operand of a product lies, for ``gemm.block``."""

    a: str
    lda: int
    lanes: int
    panel: int


class Right(NamedTuple):
    """A right operand: its first entry, and elements from column to column and from row to row.

    A panel of it lies as a row does: columns within a panel stand side by side.
    """

    start: Value
    across: Value
    step: Value


class Matrix(NamedTuple):
    """One matrix of a batch: its first entry, and elements from row to row."""

    start: Value
    step: Value

    def row(self, index: Value) -> Value:
        return self.start.at(index * self.step)


class Kernel:
    """What both kernels need: their arguments and the pieces of a block.

    Attributes:
        width: columns of a panel.
        high: blocks of queries.
        used: how many numbers of the thread's memory are taken.
    """

    def __init__(self, module: Module, name: str, spec: AttentionSpec, tensors: int) -> None:
        self.spec = spec
        self.call = call = Call(module, name)
        self.fn = fn = call.fn
        fn.align_stack()
        self.width = spec.lanes * spec.panel
        bases = [call.tensor() for _ in range(tensors)]
        self.queries, self.keys, self.features, self.outputs = (call.number() for _ in range(4))
        lengths = [call.number() for _ in range(spec.axes - 1)]
        self.high = (self.queries + (BLOCK - 1)) // fn.value(BLOCK, "i64")
        self._strides = [
            ([call.number() for _ in range(spec.axes)], call.number()) for _ in range(tensors)
        ]
        self._bases, self._lengths = bases, lengths
        self.used = 0
        pack_rows(module, "rows", spec)
        pack_columns(module, "columns", spec)
        self._module = module
        self._lefts: dict[_Left, int] = {}

    def matrices(self, number: Value) -> list[Matrix]:
        """The matrices with this number, of every tensor."""
        place = unraveled(number, self._lengths)
        return [
            Matrix(base.at(dot(place, along)), step)
            for base, (along, step) in zip(self._bases, self._strides, strict=True)
        ]

    def room(self, count: int) -> Value:
        """Memory of the thread for so many numbers."""
        start = self.call.scratch.at(self.used)
        self.used += count
        assert self.used * SIZES["float"] <= SCRATCH_BYTES
        return start

    # ------------------------------------------------------------------ packing

    def _pack(self, how: str, depth: Value, matrix: Value, step: Value, cols: Value) -> Right:
        """Panels of a right operand of ``cols`` columns."""
        target = self.room(TILE)

        def one(left: Value) -> None:
            from_ = matrix.at(left if how == "rows" else left * step)
            some = self.fn.minimum(cols - left, self.width)
            self.fn.call(how, "void", depth, from_, step, some, target.at(left * depth))

        self.fn.loop(0, cols, self.width, (), one)
        return Right(target, depth, self.fn.value(self.width, "i64"))

    def turned(self, matrix: Value, step: Value, rows: Value, cols: Value) -> Right:
        """The transpose of some rows."""
        return self._pack("columns", cols, matrix, step, rows)

    def along(self, matrix: Value, step: Value, rows: Value, cols: Value) -> Right:
        """Some rows: where they are, if that is whole panels that a cache keeps."""
        fn = self.fn
        copied = (cols % self.width).compare("ne", 0) | (step % _ALIASING).compare("eq", 0)

        def copy() -> list[Value]:
            return list(self._pack("rows", rows, matrix, step, cols))

        here = [matrix, fn.value(1, "i64"), step]
        return Right(*fn.when(copied, copy, lambda: here))

    # ------------------------------------------------------------------ products

    def product(
        self, left: tuple[str, int], rows: Value, cols: Value, right: Right, sums: Value,
        first: Value, a: Callable[[Value, Value], Value],
        span: Callable[[Value, int], tuple[Value, Value]],
        wanted: Callable[[Value, int, Value], Value] | None = None,
    ) -> None:  # fmt: skip
        """Sums (panels of BLOCK rows) of left times right.

        Args:
            a: the left operand's entry at (row, k).
            span: for some rows, from which k to which k there is something to add.
            wanted: whether the panel from a column on is needed for some rows.
        """
        fn, spec = self.fn, self.spec
        key = _Left(*left, spec.lanes, spec.panel)
        if key not in self._lefts:
            self._lefts[key] = len(self._lefts)
            for height in spec.blocks:
                block(self._module, f"block{self._lefts[key]}_{height}", height, key)
        number = self._lefts[key]

        def one(height: int, row: Value, column: Value) -> None:
            start, stop = span(row, height)
            b = right.start.at(column * right.across + start * right.step)
            place = sums.at(column * BLOCK + row * self.width)
            args = stop - start, a(row, start), b, right.step, place, first

            def run() -> None:
                fn.call(f"block{number}_{height}", "void", *args)

            if wanted is None:
                run()
            else:
                fn.when(wanted(row, height, column), run)

        def panel(column: Value) -> None:
            in_blocks(fn, spec.blocks, rows)(lambda height, row: one(height, row, column))

        fn.loop(0, cols, self.width, (), panel)

    # ------------------------------------------------------------------ rows

    def limit(self, query: Value, key: Value, cols: Value) -> Value:
        """How many of the block's keys a query looks at; perhaps less than 0."""
        if not self.spec.causal:
            return cols
        return self.fn.minimum(query + 1 - key, cols)

    def clamped(self, count: Value) -> Value:
        """Between 0 and the number of lanes."""
        least = self.fn.select(count.compare("sgt", 0), count, 0)
        return self.fn.minimum(least, self.spec.lanes)

    def part(self, count: Value) -> Lanes:
        return Lanes(self.fn, self.spec.lanes, self.clamped(count))

    def sums_at(self, sums: Value, row: Value, column: Value) -> Value:
        """Where an entry of a product is."""
        inside = column % self.width
        return sums.at((column - inside) * BLOCK + row * self.width + inside)

    def number(self, place: Value) -> Value:
        """One number in every lane."""
        return Lanes(self.fn, self.spec.lanes).load(place, "float32", SAME, place)

    def constant(self, number: float) -> Value:
        return self.fn.value(number, vector(self.spec.lanes, "float"))

    def write(
        self, sums: Value, rows: Value, target: Matrix, cols: Value, change: Callable[..., Value]
    ) -> None:
        """A product's rows to memory: change(sum, row, what is there)."""

        def one(row: Value) -> None:
            line = target.row(row)

            def some(column: Value) -> None:
                part = self.part(cols - column)
                value = part.load(self.sums_at(sums, row, column), "float32", NEXT, column * 0)
                place = line.at(column)
                old = part.load(place, "float32", NEXT, column * 0)
                part.store(place, change(value, row, old), NEXT, column * 0)

            self.fn.loop(0, cols, self.spec.lanes, (), some)

        self.fn.loop(0, rows, 1, (), one)


def below_diagonal(
    kernel: Kernel, query: Value, key: Value
) -> Callable[[Value, int, Value], Value] | None:
    """Whether some of these rows look at keys from a column on."""
    if not kernel.spec.causal:
        return None
    return lambda row, height, column: (key + column).compare("sle", query + row + (height - 1))
