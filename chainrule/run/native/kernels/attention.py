"""Attention and its gradient, a block of queries against a block of keys at a time.

The weights of a block lie in the thread's memory and are used at once: no matrix of queries by keys
stands anywhere. Forward, each query keeps the largest score so far and the sum of exponentials, and
what was summed before is scaled when a larger score comes. Backward, weights are made again from
the logarithm of that sum. Blocks above the diagonal of a causal mask are left out. Blocks come in a
fixed order, each by one thread, so that bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from chainrule.run.native import vmath
from chainrule.run.native.ir import Module, Value, vector
from chainrule.run.native.kernels.calling import Call, dot, unraveled
from chainrule.run.native.kernels.gemm import block
from chainrule.run.native.kernels.packing import pack_columns, pack_rows
from chainrule.run.native.program import NEXT, SAME, Combine, Lanes, across

# Queries and keys in a block, and the widest query, key or value.
BLOCK, WIDEST = 64, 256
# From row to row of a block of weights: a line more, so that rows fall on different lines.
_STEP = BLOCK + 16
_TILE = BLOCK * WIDEST
# Under a causal mask, a row's weights are computed so many columns at a time: as many as a block
# of a product has rows, or a few more.
_PART = 16


class AttentionSpec(NamedTuple):
    """Key of both kernels.

    Attributes:
        scale: of the scores.
        causal: query i looks at keys up to i.
        lda: elements from row to row of the queries, and of dy.
        axes: of the batch.
        lanes, panel, blocks: the target's shape.
    """

    scale: float
    causal: bool
    lda: tuple[int, int]
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

    # ------------------------------------------------------------------ packing

    def pack(self, how: str, depth: Value, matrix: Value, step: Value, cols: Value) -> Value:
        """Panels of a right operand of ``cols`` columns; each is BLOCK or WIDEST deep at most."""
        target = self.room(_TILE)

        def one(left: Value) -> None:
            from_ = matrix.at(left if how == "rows" else left * step)
            some = self.fn.minimum(cols - left, self.width)
            self.fn.call(how, "void", depth, from_, step, some, target.at(left * depth))

        self.fn.loop(0, cols, self.width, (), one)
        return target

    # ------------------------------------------------------------------ products

    def product(
        self, left: tuple[str, int], rows: Value, cols: Value, right: Value, right_depth: Value,
        sums: Value, first: Value, a: Callable[[Value, Value], Value],
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
            b = right.at(column * right_depth + start * self.width)
            place = sums.at(column * BLOCK + row * self.width)
            width = fn.value(self.width, "i64")
            args = stop - start, a(row, start), b, width, place, first

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

    def sums_at(self, sums: Value, row: Value, column: Value | int) -> Value:
        """Where an entry of a product is."""
        if isinstance(column, int):
            panel, inside = column // self.width * self.width, column % self.width
            return sums.at(row * self.width + (panel * BLOCK + inside))
        inside_ = column % self.width
        return sums.at((column - inside_) * BLOCK + row * self.width + inside_)

    def columns(self, width: int) -> range:
        """The first columns of the vectors of a row."""
        return range(0, width, self.spec.lanes)

    def each_row(
        self, rows: Value, query: Value, key: Value, one: Callable[[Value, int], None]
    ) -> None:
        """``one(row, width)`` for the rows of a block: no query looks at keys from width on."""
        fn = self.fn
        if not self.spec.causal:
            fn.loop(0, rows, 1, (), lambda row: one(row, BLOCK))
            return
        start: Value = fn.value(0, "i64")
        for width in range(_PART, BLOCK + 1, _PART):
            stop = fn.minimum(key + width - query, rows) if width < BLOCK else rows
            fn.loop(start, stop, 1, (), lambda row, width=width: one(row, width))
            start = fn.select(stop.compare("sgt", start), stop, start)

    def clear_beyond(self, line: Value, width: int) -> None:
        """Zeros after a row of weights, as far as a product of several rows may read."""
        for column in range(width, min(width + _PART, BLOCK), self.spec.lanes):
            line.store(self.constant(0.0), column)

    def number(self, place: Value) -> Value:
        """One number in every lane."""
        return Lanes(self.fn, self.spec.lanes).load(place, "float32", SAME, place)

    def constant(self, number: float) -> Value:
        return self.fn.value(number, vector(self.spec.lanes, "float"))

    def total(self, parts: Sequence[Value], join: Combine = lambda a, b: a + b) -> Value:
        """All lanes of all vectors, in every lane."""
        total = parts[0]
        for part in parts[1:]:
            total = join(total, part)
        return self.fn.splat(across(total, join, self.spec.lanes), self.spec.lanes)

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
    fn, call = kernel.fn, kernel.call
    matrix = call.tile // kernel.high
    top = (call.tile - matrix * kernel.high) * BLOCK
    q, k, v, y, logs = kernel.matrices(matrix)
    rows = fn.minimum(kernel.queries - top, BLOCK)
    last = fn.minimum(top + rows, kernel.keys) if spec.causal else kernel.keys
    scores, weights = kernel.room(_TILE), kernel.room(BLOCK * _STEP)
    sums, highest, total = kernel.room(_TILE), kernel.room(BLOCK), kernel.room(BLOCK)
    room = kernel._room
    true, false = fn.value(1, "i1"), fn.value(0, "i64")

    def start(row: Value) -> None:
        highest.store(fn.value(-vmath.INF, "float"), row)
        total.store(fn.value(0.0, "float"), row)

    fn.loop(0, BLOCK, 1, (), start)

    def against(key: Value) -> None:
        kernel._room = room
        cols = fn.minimum(last - key, BLOCK)
        turned = kernel.pack("columns", kernel.features, k.row(key), k.step, cols)
        values = kernel.pack("rows", cols, v.row(key), v.step, kernel.outputs)
        kernel.product(
            ("rows", spec.lda[0]), rows, cols, turned, kernel.features, scores, true,
            lambda row, _: q.row(top + row), lambda *_: (false, kernel.features),
            _below_diagonal(kernel, top, key),
        )  # fmt: skip
        kernel.each_row(rows, top, key, lambda row, width: exponentials(row, width, key, cols))

        def span(row: Value, height: int) -> tuple[Value, Value]:
            stop = kernel.limit(top + row + (height - 1), key, cols)
            return false, fn.select(stop.compare("sgt", 0), stop, 0)

        kernel.product(
            ("rows", _STEP), rows, kernel.outputs, values, cols, sums, key.compare("eq", 0),
            lambda row, at: weights.at(row * _STEP + at), span,
        )  # fmt: skip

    def exponentials(row: Value, width: int, key: Value, cols: Value) -> None:
        limit = kernel.limit(top + row, key, cols)
        lowest = kernel.constant(-vmath.INF)
        parts, masks = [], []
        for column in kernel.columns(width):
            mask = kernel.part(limit - column).mask
            assert mask is not None
            loaded = kernel.sums_at(scores, row, column).load(lowest.type)
            parts.append(fn.select(mask, loaded * spec.scale, lowest))
            masks.append(mask)
        before = kernel.number(highest.at(row))
        after = _larger(before, kernel.total(parts, _larger))
        shift = fn.select(after.compare("oeq", -vmath.INF), 0.0, after)
        line = weights.at(row * _STEP)
        found = []
        for column, part, mask in zip(kernel.columns(width), parts, masks, strict=True):
            power = fn.select(mask, vmath.exp(part - shift), 0.0)
            line.store(power, column)
            found.append(power)
        kernel.clear_beyond(line, width)
        here = kernel.total(found)

        def later() -> list[Value]:
            """What was summed before is scaled."""
            change = vmath.exp(before - shift)

            def scaled(column: Value) -> None:
                place = kernel.sums_at(sums, row, column)
                place.store(place.load(lowest.type) * change)

            fn.loop(0, padded, spec.lanes, (), scaled)
            return [fn.fma(kernel.number(total.at(row)), change, here)]

        (all_,) = fn.when(key.compare("ne", 0), later, lambda: [here])
        highest.store(fn.lane(after, 0), row)
        total.store(fn.lane(all_, 0), row)

    padded = (kernel.outputs + (kernel.width - 1)) // kernel.width * kernel.width
    fn.loop(0, last, BLOCK, (), against)
    below = _Matrix(y.row(top), y.step)
    kernel.write(
        sums, rows, below, kernel.outputs,
        lambda value, row, _: value / kernel.number(total.at(row)),
    )  # fmt: skip

    def logarithm(row: Value) -> None:
        value = kernel.number(highest.at(row)) + vmath.log(kernel.number(total.at(row)))
        logs.start.store(fn.lane(value, 0), top + row)

    fn.loop(0, rows, 1, (), logarithm)
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
    dk = ds^T q. A tile is one matrix of the batch.

    Arguments: q, k, v, y, logarithms, dy, dq, dk, dv; the numbers as in :func:`attention`.
    """
    kernel = _Kernel(module, name, spec, 9)
    fn = kernel.fn
    q, k, v, y, logs, g, dq, dk, dv = kernel.matrices(kernel.call.tile)
    scores, inner, sums = kernel.room(BLOCK * BLOCK), kernel.room(BLOCK * BLOCK), kernel.room(_TILE)
    weights, dscores = kernel.room(BLOCK * _STEP), kernel.room(BLOCK * _STEP)
    to_keys, to_values = kernel.room(_TILE), kernel.room(_TILE)
    room = kernel._room
    true, no, none = fn.value(1, "i1"), fn.value(0, "i1"), fn.value(0, "i64")
    type = vector(spec.lanes, "float")

    def padded(count: Value) -> Value:
        return (count + (kernel.width - 1)) // kernel.width * (kernel.width * BLOCK)

    def cleared(place: Value, count: Value) -> None:
        zero = fn.value(0.0, type)
        fn.loop(0, padded(count), spec.lanes, (), lambda at: place.store(zero, at))

    def keys(key: Value) -> None:
        kernel._room = room
        cols = fn.minimum(kernel.keys - key, BLOCK)
        keys_turned = kernel.pack("columns", kernel.features, k.row(key), k.step, cols)
        values_turned = kernel.pack("columns", kernel.outputs, v.row(key), v.step, cols)
        key_rows = kernel.pack("rows", cols, k.row(key), k.step, kernel.features)
        cleared(to_keys, kernel.features)
        cleared(to_values, kernel.outputs)
        inside = kernel._room

        def queries(query: Value) -> None:
            kernel._room = inside
            rows = fn.minimum(kernel.queries - query, BLOCK)
            query_rows = kernel.pack("rows", rows, q.row(query), q.step, kernel.features)
            g_rows = kernel.pack("rows", rows, g.row(query), g.step, kernel.outputs)
            wanted = _below_diagonal(kernel, query, key)
            kernel.product(
                ("rows", spec.lda[0]), rows, cols, keys_turned, kernel.features, scores, true,
                lambda row, _: q.row(query + row), lambda *_: (none, kernel.features), wanted,
            )  # fmt: skip
            kernel.product(
                ("rows", spec.lda[1]), rows, cols, values_turned, kernel.outputs, inner, true,
                lambda row, _: g.row(query + row), lambda *_: (none, kernel.outputs), wanted,
            )  # fmt: skip
            kernel.each_row(
                rows, query, key, lambda row, width: weigh(row, width, query, key, cols)
            )

            def seen(row: Value, height: int) -> tuple[Value, Value]:
                """The keys that these queries look at."""
                stop = kernel.limit(query + row + (height - 1), key, cols)
                return none, fn.select(stop.compare("sgt", 0), stop, 0)

            def seeing(row: Value, height: int) -> tuple[Value, Value]:
                """The queries that look at these keys."""
                if not spec.causal:
                    return none, rows
                start = key + row - query
                start = fn.select(start.compare("sgt", 0), start, 0)
                return fn.minimum(start, rows), rows

            kernel.product(
                ("columns", _STEP), cols, kernel.outputs, g_rows, rows, to_values, no,
                lambda row, at: weights.at(at * _STEP + row), seeing,
            )  # fmt: skip
            kernel.product(
                ("columns", _STEP), cols, kernel.features, query_rows, rows, to_keys, no,
                lambda row, at: dscores.at(at * _STEP + row), seeing,
            )  # fmt: skip
            kernel.product(
                ("rows", _STEP), rows, kernel.features, key_rows, cols, sums, true,
                lambda row, at: dscores.at(row * _STEP + at), seen,
            )  # fmt: skip
            below = _Matrix(dq.row(query), dq.step)
            fn.when(
                key.compare("eq", 0),
                lambda: kernel.write(sums, rows, below, kernel.features, lambda x, *_: x),
                lambda: kernel.write(
                    sums, rows, below, kernel.features, lambda x, _, old: old + x
                ),
            )  # fmt: skip

        fn.loop(key if spec.causal else 0, kernel.queries, BLOCK, (), queries)
        kernel.write(to_keys, cols, _Matrix(dk.row(key), dk.step), kernel.features, lambda x, *_: x)
        kernel.write(
            to_values, cols, _Matrix(dv.row(key), dv.step), kernel.outputs, lambda x, *_: x
        )

    def weigh(row: Value, width: int, query: Value, key: Value, cols: Value) -> None:
        limit = kernel.limit(query + row, key, cols)
        log = kernel.number(logs.start.at(query + row))
        left, right = g.row(query + row), y.row(query + row)

        def product(column: Value, total: Value) -> list[Value]:
            part = kernel.part(kernel.outputs - column)
            a, b = (part.load(line, "float32", NEXT, column) for line in (left, right))
            return [fn.fma(a, b, total)]

        (along,) = fn.loop(0, kernel.outputs, spec.lanes, [fn.value(0.0, type)], product)
        mean = kernel.total([along])
        for column in kernel.columns(width):
            mask = kernel.part(limit - column).mask
            assert mask is not None
            score = kernel.sums_at(scores, row, column).load(type) * spec.scale
            dp = kernel.sums_at(inner, row, column).load(type)
            p = fn.select(mask, vmath.exp(score - log), 0.0)
            ds = fn.select(mask, p * (dp - mean) * spec.scale, 0.0)
            weights.at(row * _STEP).store(p, column)
            dscores.at(row * _STEP).store(ds, column)
        kernel.clear_beyond(weights.at(row * _STEP), width)
        kernel.clear_beyond(dscores.at(row * _STEP), width)

    fn.loop(0, kernel.keys, BLOCK, (), keys)
    fn.ret()
