"""Attention and its gradient, a block of queries against a block of keys at a time.

The weights of a block lie in the thread's memory and are used at once: no matrix of queries by keys
stands anywhere. Forward, weights are made a panel of queries at a time, with queries along vectors:
each lane keeps the largest score so far and the sum of exponentials, and what was summed before is
scaled when a larger score comes. Backward, weights are made again, some rows of queries at a time,
from the logarithm of that sum. What lies above the diagonal of a causal mask is left out. Blocks
come in a fixed order, each by one thread, so that bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.run.native import vmath
from chainrule.run.native.ir import Module, Value, vector
from chainrule.run.native.kernels.calling import Call, dot, unraveled
from chainrule.run.native.kernels.gemm import block
from chainrule.run.native.kernels.packing import pack_columns, pack_rows
from chainrule.run.native.program import NEXT, SAME, Lanes, across

# Queries and keys in a block, and the widest query, key or value.
BLOCK, WIDEST = 64, 256
# From row to row of a block of weights: a line more, so that rows fall on different lines.
_STEP = BLOCK + 16
# Numbers on a line of the cache.
_LINE = 16
# Room for a matrix of a block, with the columns that a last panel has too many.
_TILE = (BLOCK + 16) * (WIDEST + 16)
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


class _Right(NamedTuple):
    """A right operand: its first entry, and elements from column to column and from row to row.

    A panel of it lies as a row does: columns within a panel stand side by side.
    """

    start: Value
    across: Value
    step: Value


class _Matrix(NamedTuple):
    """One matrix of a batch: its first entry, and elements from row to row."""

    start: Value
    step: Value

    def row(self, index: Value) -> Value:
        return self.start.at(index * self.step)


class _Kernel:
    """What both kernels need: their arguments and the pieces of a block."""

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
        self._room = 0
        pack_rows(module, "rows", spec)
        pack_columns(module, "columns", spec)
        self._module = module
        self._lefts: dict[_Left, int] = {}

    def matrices(self, number: Value) -> list[_Matrix]:
        """The matrices with this number, of every tensor."""
        place = unraveled(number, self._lengths)
        return [
            _Matrix(base.at(dot(place, along)), step)
            for base, (along, step) in zip(self._bases, self._strides, strict=True)
        ]

    def room(self, count: int) -> Value:
        """Memory of the thread for so many numbers."""
        start = self.call.scratch.at(self._room)
        self._room += count
        return start

    def ask(self, matrix: _Matrix, rows: Value, cols: Value, writes: bool = False) -> None:
        """Bring some rows nearer: they may be far away, and the processor guesses too late."""

        def one(row: Value) -> None:
            line = matrix.row(row)
            self.fn.loop(0, cols, _LINE, (), lambda at: self.fn.prefetch(line.at(at), writes))

        self.fn.loop(0, rows, 1, (), one)

    # ------------------------------------------------------------------ packing

    def _pack(self, how: str, depth: Value, matrix: Value, step: Value, cols: Value) -> _Right:
        """Panels of a right operand of ``cols`` columns."""
        target = self.room(_TILE)

        def one(left: Value) -> None:
            from_ = matrix.at(left if how == "rows" else left * step)
            some = self.fn.minimum(cols - left, self.width)
            self.fn.call(how, "void", depth, from_, step, some, target.at(left * depth))

        self.fn.loop(0, cols, self.width, (), one)
        return _Right(target, depth, self.fn.value(self.width, "i64"))

    def turned(self, matrix: Value, step: Value, rows: Value, cols: Value) -> _Right:
        """The transpose of some rows."""
        return self._pack("columns", cols, matrix, step, rows)

    def along(self, matrix: Value, step: Value, rows: Value, cols: Value) -> _Right:
        """Some rows: where they are, if that is whole panels that a cache keeps."""
        fn = self.fn
        copied = (cols % self.width).compare("ne", 0) | (step % _ALIASING).compare("eq", 0)

        def copy() -> list[Value]:
            return list(self._pack("rows", rows, matrix, step, cols))

        here = [matrix, fn.value(1, "i64"), step]
        return _Right(*fn.when(copied, copy, lambda: here))

    # ------------------------------------------------------------------ products

    def product(
        self, left: tuple[str, int], rows: Value, cols: Value, right: _Right, sums: Value,
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
            full = spec.blocks[0]
            whole = rows - rows % full
            fn.loop(0, whole, full, (), lambda row: one(full, row, column))
            row, rest = whole, rows - whole
            for height in spec.blocks[1:]:
                here = row

                def some(height: int = height, here: Value = here) -> None:
                    one(height, here, column)

                fn.when((rest & height).compare("ne", 0), some)
                row = row + (rest & height)

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
        self, sums: Value, rows: Value, target: _Matrix, cols: Value, change: Callable[..., Value]
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


def _larger(a: Value, b: Value) -> Value:
    """The maximum; NaN need not win, for the exponential of its score is NaN anyway."""
    return a.fn.select(a.compare("ogt", b), a, b)


def attention(module: Module, name: str, spec: AttentionSpec) -> None:
    """y = softmax(scale q k^T) v. A tile is a block of queries of one matrix.

    Arguments: q, k, v, y, logarithms; queries, keys, features of a key, of a value; the lengths of
    the batch's axes but the first; for each tensor its strides along them and from row to row.
    """
    kernel = _Kernel(module, name, spec, 5)
    fn, call, width, lanes = kernel.fn, kernel.call, kernel.width, spec.lanes
    matrix = call.tile // kernel.high
    top = (call.tile - matrix * kernel.high) * BLOCK
    q, k, v, y, logs = kernel.matrices(matrix)
    rows = fn.minimum(kernel.queries - top, BLOCK)
    last = fn.minimum(top + rows, kernel.keys) if spec.causal else kernel.keys
    weights, sums = kernel.room(BLOCK * width), kernel.room(_TILE)  # weights: keys by queries
    highest, total, change = (kernel.room(BLOCK + width) for _ in range(3))
    turned = kernel.turned(q.row(top), q.step, rows, kernel.features)
    room = kernel._room
    true, none = fn.value(1, "i1"), fn.value(0, "i64")
    lowest, nothing = kernel.constant(-vmath.INF), kernel.constant(0.0)
    type = lowest.type

    def start(row: Value) -> None:
        highest.store(lowest, row)
        total.store(nothing, row)

    fn.loop(0, rows, lanes, (), start)

    def against(key: Value) -> None:
        kernel._room = room
        cols = fn.minimum(last - key, BLOCK)
        values = kernel.along(v.row(key), v.step, cols, kernel.outputs)

        def panel(query: Value) -> None:
            """Some queries, as many as a panel has columns."""
            count = kernel.limit(top + query + (width - 1), key, cols)  # of keys that one looks at
            fn.when(count.compare("sgt", 0), lambda: weigh(query, key, count, values))

        fn.loop(0, rows, width, (), panel)

    def weigh(query: Value, key: Value, count: Value, values: _Right) -> None:
        here = fn.minimum(rows - query, width)
        panel = turned._replace(start=turned.start.at(query * turned.across))
        kernel.product(
            ("rows", spec.lda[0]), count, here, panel, weights, true,
            lambda row, _: k.row(key + row), lambda *_: (none, kernel.features),
        )  # fmt: skip
        fn.loop(0, width, lanes, (), lambda at: exponentials(at, query, key, count))
        end = fn.select(key.compare("ne", 0), query + here, query)
        fn.loop(query, end, 1, (), scale)

        def span(row: Value, height: int) -> tuple[Value, Value]:
            stop = kernel.limit(top + query + row + (height - 1), key, count)
            return none, fn.select(stop.compare("sgt", 0), stop, 0)

        kernel.product(
            ("columns", width), here, kernel.outputs, values, sums.at(query * width),
            key.compare("eq", 0), lambda row, at: weights.at(at * width + row), span,
        )  # fmt: skip

    def exponentials(at: Value, query: Value, key: Value, count: Value) -> None:
        """Weights in the place of scores, not yet divided by their sum: a vector of queries."""
        each = query + at
        first = fn.splat((top + each - key).convert("trunc", "i32"), lanes)
        limit = first + fn.vector_of(range(lanes), "i32")  # the last key that a query looks at

        def scaled(row: Value, before: Value) -> list[Value]:
            place = weights.at(row * width + at)
            score = place.load(type) * spec.scale
            if spec.causal:
                number = fn.splat(row.convert("trunc", "i32"), lanes)
                score = fn.select(limit.compare("sge", number), score, lowest)
            place.store(score)
            return [_larger(before, score)]

        before = highest.load(type, each)
        (after,) = fn.loop(0, count, 1, [before], scaled)
        shift = fn.select(after.compare("oeq", -vmath.INF), 0.0, after)

        def power(row: Value, sum_: Value) -> list[Value]:
            place = weights.at(row * width + at)
            value = vmath.exp(place.load(type) - shift)
            place.store(value)
            return [sum_ + value]

        (added,) = fn.loop(0, count, 1, [nothing], power)

        def later() -> list[Value]:
            """What was summed before is scaled."""
            factor = vmath.exp(before - shift)
            change.store(factor, each)
            return [fn.fma(total.load(type, each), factor, added)]

        (sum_,) = fn.when(key.compare("ne", 0), later, lambda: [added])
        highest.store(after, each)
        total.store(sum_, each)

    def scale(row: Value) -> None:
        factor = kernel.number(change.at(row))

        def some(column: Value) -> None:
            place = kernel.sums_at(sums, row, column)
            place.store(place.load(type) * factor)

        fn.loop(0, padded, lanes, (), some)

    padded = (kernel.outputs + (width - 1)) // width * width
    fn.loop(0, last, BLOCK, (), against)

    def finish(query: Value) -> None:
        sum_ = total.load(type, query)
        logarithm = highest.load(type, query) + vmath.log(sum_)
        kernel.part(rows - query).store(logs.start.at(top), logarithm, NEXT, query)
        total.store(1.0 / sum_, query)

    fn.loop(0, rows, lanes, (), finish)
    kernel.write(
        sums, rows, _Matrix(y.row(top), y.step), kernel.outputs,
        lambda value, row, _: value * kernel.number(total.at(row)),
    )  # fmt: skip
    fn.ret()


def _below_diagonal(
    kernel: _Kernel, query: Value, key: Value
) -> Callable[[Value, int, Value], Value] | None:
    """Whether some of these rows look at keys from a column on."""
    if not kernel.spec.causal:
        return None
    return lambda row, height, column: (key + column).compare("sle", query + row + (height - 1))


def attention_gradient(module: Module, name: str, spec: AttentionSpec) -> None:
    """With weights p, dp = dy v^T and ds = p (dp - sum(dy y)) scale: dv = p^T dy, dq = ds k and
    dk = ds^T q. No result is -0. A tile is one matrix of the batch.

    Arguments: q, k, v, y, logarithms, dy, dq, dk, dv; the numbers as in :func:`attention`.
    """
    kernel = _Kernel(module, name, spec, 9)
    fn, full = kernel.fn, spec.blocks[0]
    q, k, v, y, logs, g, dq, dk, dv = kernel.matrices(kernel.call.tile)
    scores, inner, sums = kernel.room(_TILE), kernel.room(_TILE), kernel.room(_TILE)
    weights, dscores = kernel.room(BLOCK * _STEP), kernel.room(BLOCK * _STEP)
    to_keys, to_values, means = kernel.room(_TILE), kernel.room(_TILE), kernel.room(BLOCK)
    room = kernel._room
    true, no, none = fn.value(1, "i1"), fn.value(0, "i1"), fn.value(0, "i64")
    nothing = kernel.constant(0.0)
    type = nothing.type

    def cleared(place: Value, count: Value) -> None:
        end = (count + (kernel.width - 1)) // kernel.width * (kernel.width * BLOCK)
        fn.loop(0, end, spec.lanes, (), lambda at: place.store(nothing, at))

    def keys(key: Value) -> None:
        kernel._room = room
        cols = fn.minimum(kernel.keys - key, BLOCK)
        keys_turned = kernel.turned(k.row(key), k.step, cols, kernel.features)
        values_turned = kernel.turned(v.row(key), v.step, cols, kernel.outputs)
        kernel.ask(_Matrix(dk.row(key), dk.step), cols, kernel.features, True)
        kernel.ask(_Matrix(dv.row(key), dv.step), cols, kernel.outputs, True)
        key_rows = kernel.along(k.row(key), k.step, cols, kernel.features)
        cleared(to_keys, kernel.features)
        cleared(to_values, kernel.outputs)
        inside = kernel._room

        def queries(query: Value) -> None:
            kernel._room = inside
            rows = fn.minimum(kernel.queries - query, BLOCK)
            query_rows = kernel.along(q.row(query), q.step, rows, kernel.features)
            g_rows = kernel.along(g.row(query), g.step, rows, kernel.outputs)
            kernel.ask(_Matrix(dq.row(query), dq.step), rows, kernel.features, True)
            fn.loop(0, rows, 1, (), lambda row: mean(row, query))
            fn.loop(0, rows, full, (), lambda row: strip(row, query, rows))

            def seeing(row: Value, height: int) -> tuple[Value, Value]:
                """The queries that look at these keys."""
                if not spec.causal:
                    return none, rows
                start = key + row - query
                start = fn.select(start.compare("sgt", 0), start, 0)
                return fn.minimum(start, rows), rows

            for left, right, width, target in (
                (weights, g_rows, kernel.outputs, to_values),
                (dscores, query_rows, kernel.features, to_keys),
            ):

                def entries(row: Value, at: Value, left: Value = left) -> Value:
                    return left.at(at * _STEP + row)

                kernel.product(
                    ("columns", _STEP), cols, width, right, target, no,
                    entries, seeing,
                )  # fmt: skip

        def strip(top: Value, query: Value, rows: Value) -> None:
            """Weights of some rows and the gradient of their scores, and that of the queries."""
            count = fn.minimum(rows - top, full)
            first = query + top
            wanted = _below_diagonal(kernel, first, key)
            kernel.product(
                ("rows", spec.lda[0]), count, cols, keys_turned, scores, true,
                lambda row, _: q.row(first + row), lambda *_: (none, kernel.features), wanted,
            )  # fmt: skip
            kernel.product(
                ("rows", spec.lda[1]), count, cols, values_turned, inner, true,
                lambda row, _: g.row(first + row), lambda *_: (none, kernel.outputs), wanted,
            )  # fmt: skip
            stop = kernel.limit(first + (count - 1), key, cols)
            fn.loop(0, count, 1, (), lambda row: weigh(row, top, query, key, cols, stop))

            def seen(row: Value, height: int) -> tuple[Value, Value]:
                """The keys that these queries look at."""
                stop = kernel.limit(first + row + (height - 1), key, cols)
                return none, fn.select(stop.compare("sgt", 0), stop, 0)

            kernel.product(
                ("rows", _STEP), count, kernel.features, key_rows, sums, true,
                lambda row, at: dscores.at((top + row) * _STEP + at), seen,
            )  # fmt: skip
            below = _Matrix(dq.row(first), dq.step)
            fn.when(
                key.compare("eq", 0),
                lambda: kernel.write(sums, count, below, kernel.features, lambda x, *_: x + 0.0),
                lambda: kernel.write(
                    sums, count, below, kernel.features, lambda x, _, old: old + x
                ),
            )  # fmt: skip

        fn.loop(key if spec.causal else 0, kernel.queries, BLOCK, (), queries)
        for made, results, width in (
            (to_keys, dk, kernel.features),
            (to_values, dv, kernel.outputs),
        ):
            place = _Matrix(results.row(key), results.step)
            kernel.write(made, cols, place, width, lambda x, *_: x + 0.0)

    def mean(row: Value, query: Value) -> None:
        """The sum of dy y of a query: that of its weights' gradients, weighted."""
        left, right = g.row(query + row), y.row(query + row)

        def product(column: Value, total: Value) -> list[Value]:
            part = kernel.part(kernel.outputs - column)
            a, b = (part.load(line, "float32", NEXT, column) for line in (left, right))
            return [fn.fma(a, b, total)]

        (along,) = fn.loop(0, kernel.outputs, spec.lanes, [nothing], product)
        means.store(across(along, lambda a, b: a + b, spec.lanes), row)

    def weigh(row: Value, top: Value, query: Value, key: Value, cols: Value, stop: Value) -> None:
        """One row of weights, up to a key; a few zeros follow, as products of several rows read."""
        index = top + row
        limit = kernel.limit(query + index, key, cols)
        log = kernel.number(logs.start.at(query + index))
        mean = kernel.number(means.at(index))
        line, dline = weights.at(index * _STEP), dscores.at(index * _STEP)

        def some(column: Value) -> None:
            mask = kernel.part(limit - column).mask
            assert mask is not None
            score = kernel.sums_at(scores, row, column).load(type) * spec.scale
            dp = kernel.sums_at(inner, row, column).load(type)
            p = fn.select(mask, vmath.exp(score - log), 0.0)
            line.store(p, column)
            dline.store(fn.select(mask, p * (dp - mean) * spec.scale, 0.0), column)

        def clear(column: Value) -> None:
            line.store(nothing, column)
            dline.store(nothing, column)

        fn.loop(0, stop, spec.lanes, (), some)
        if spec.causal:
            end = (stop + (spec.lanes - 1)) // spec.lanes * spec.lanes
            start = fn.select(end.compare("sgt", 0), end, 0)
            fn.loop(start, fn.minimum(start + full, BLOCK), spec.lanes, (), clear)

    fn.loop(0, kernel.keys, BLOCK, (), keys)
    fn.ret()
