"""Attention and its gradient, a block of queries against a block of keys at a time.

The weights of a block lie in the thread's memory and are used at once: no matrix of queries by keys
stands anywhere. Forward, weights are made a panel of queries at a time, with queries along vectors:
each lane keeps the largest score so far and the sum of exponentials, and what was summed before is
scaled when a larger score comes. Backward, weights are made again, some rows of queries at a time,
from the logarithm of that sum. What lies above the diagonal of a causal mask is left out. Blocks
come in a fixed order, each by one thread, so that bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chainrule.run.native import vmath
from chainrule.run.native.ir import Module, Value
from chainrule.run.native.kernels.attention_parts import (
    BLOCK,
    TILE,
    AttentionSpec,
    Kernel,
    Matrix,
    Right,
    below_diagonal,
)
from chainrule.run.native.kernels.calling import LINE_NUMBERS
from chainrule.run.native.program import NEXT, across

# From row to row of a block of weights: a line more, so that rows fall on different lines.
_STEP = BLOCK + 16


def _larger(a: Value, b: Value) -> Value:
    """The maximum; NaN need not win, for the exponential of its score is NaN anyway."""
    return a.fn.select(a.compare("ogt", b), a, b)


def attention(module: Module, name: str, spec: AttentionSpec) -> None:
    """y = softmax(scale q k^T) v. A tile is a block of queries of one matrix.

    Arguments: q, k, v, y, logarithms; queries, keys, features of a key, of a value; the lengths of
    the batch's axes but the first; for each tensor its strides along them and from row to row.
    """
    kernel = Kernel(module, name, spec, 5)
    fn, call, width, lanes = kernel.fn, kernel.call, kernel.width, spec.lanes
    matrix = call.tile // kernel.high
    top = (call.tile - matrix * kernel.high) * BLOCK
    q, k, v, y, logs = kernel.matrices(matrix)
    rows = fn.minimum(kernel.queries - top, BLOCK)
    last = fn.minimum(top + rows, kernel.keys) if spec.causal else kernel.keys
    weights, sums = kernel.room(BLOCK * width), kernel.room(TILE)  # weights: keys by queries
    highest, total, change = (kernel.room(BLOCK + width) for _ in range(3))
    turned = kernel.turned(q.row(top), q.step, rows, kernel.features)
    room = kernel.used
    true, none = fn.value(1, "i1"), fn.value(0, "i64")
    lowest, nothing = kernel.constant(-vmath.INF), kernel.constant(0.0)
    type = lowest.type

    def start(row: Value) -> None:
        highest.store(lowest, row)
        total.store(nothing, row)

    fn.loop(0, rows, lanes, (), start)

    def against(key: Value) -> None:
        kernel.used = room
        cols = fn.minimum(last - key, BLOCK)
        values = kernel.along(v.row(key), v.step, cols, kernel.outputs)

        def panel(query: Value) -> None:
            """Some queries, as many as a panel has columns."""
            count = kernel.limit(top + query + (width - 1), key, cols)  # of keys that one looks at
            fn.when(count.compare("sgt", 0), lambda: weigh(query, key, count, values))

        fn.loop(0, rows, width, (), panel)

    def weigh(query: Value, key: Value, count: Value, values: Right) -> None:
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
        sums, rows, Matrix(y.row(top), y.step), kernel.outputs,
        lambda value, row, _: value * kernel.number(total.at(row)),
    )  # fmt: skip
    fn.ret()


def attention_gradient(module: Module, name: str, spec: AttentionSpec) -> None:
    """With weights p, dp = dy v^T and ds = p (dp - sum(dy y)) scale: dv = p^T dy, dq = ds k and
    dk = ds^T q. No result is -0. A tile is one matrix of the batch.

    Arguments: q, k, v, y, logarithms, dy, dq, dk, dv; the numbers as in :func:`attention`.
    """
    kernel = Kernel(module, name, spec, 9)
    fn, full = kernel.fn, spec.blocks[0]
    q, k, v, y, logs, g, dq, dk, dv = kernel.matrices(kernel.call.tile)
    # Of the tile that comes next, if there is one: what forward made, and the results.
    ahead = kernel.matrices(kernel.call.tile + 1)
    widths = kernel.features, kernel.features, kernel.outputs
    given = [*zip(ahead[:3], widths, strict=True), (ahead[3], kernel.outputs)]
    made = [*zip(ahead[-3:], widths, strict=True)]
    scores, inner, weights, dscores = (kernel.room(BLOCK * _STEP) for _ in range(4))
    sums = kernel.room(TILE)
    to_keys, to_values, means = kernel.room(TILE), kernel.room(TILE), kernel.room(BLOCK)
    room = kernel.used
    true, no, none = fn.value(1, "i1"), fn.value(0, "i1"), fn.value(0, "i64")
    nothing = kernel.constant(0.0)
    type = nothing.type

    def cleared(place: Value, count: Value) -> None:
        end = (count + (kernel.width - 1)) // kernel.width * (kernel.width * BLOCK)
        fn.loop(0, end, spec.lanes, (), lambda at: place.store(nothing, at))

    def keys(key: Value) -> None:
        kernel.used = room
        cols = fn.minimum(kernel.keys - key, BLOCK)
        keys_turned = kernel.turned(k.row(key), k.step, cols, kernel.features)
        values_turned = kernel.turned(v.row(key), v.step, cols, kernel.outputs)
        key_rows = kernel.along(k.row(key), k.step, cols, kernel.features)
        cleared(to_keys, kernel.features)
        cleared(to_values, kernel.outputs)
        inside = kernel.used

        def queries(query: Value) -> None:
            kernel.used = inside
            rows = fn.minimum(kernel.queries - query, BLOCK)
            query_rows = kernel.along(q.row(query), q.step, rows, kernel.features)
            g_rows = kernel.along(g.row(query), g.step, rows, kernel.outputs)
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
            wanted = below_diagonal(kernel, first, key)
            kernel.product(
                ("rows", spec.lda[0]), count, cols, keys_turned, scores, true,
                lambda row, _: q.row(first + row), lambda *_: (none, kernel.features), wanted,
            )  # fmt: skip
            fn.loop(first, first + count, 1, (), partial(ask, given, False))
            kernel.product(
                ("rows", spec.lda[1]), count, cols, values_turned, inner, true,
                lambda row, _: g.row(first + row), lambda *_: (none, kernel.outputs), wanted,
            )  # fmt: skip
            fn.loop(first, first + count, 1, (), partial(ask, made, True))
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
            below = Matrix(dq.row(first), dq.step)
            fn.when(
                key.compare("eq", 0),
                lambda: kernel.write(sums, count, below, kernel.features, lambda x, *_: x + 0.0),
                lambda: kernel.write(
                    sums, count, below, kernel.features, lambda x, _, old: old + x
                ),
            )  # fmt: skip

        fn.loop(key if spec.causal else 0, kernel.queries, BLOCK, (), queries)
        for total, results, width in (
            (to_keys, dk, kernel.features),
            (to_values, dv, kernel.outputs),
        ):
            place = Matrix(results.row(key), results.step)
            kernel.write(total, cols, place, width, lambda x, *_: x + 0.0)

    def ask(matrices: Sequence[tuple[Matrix, Value]], is_written: bool, row: Value) -> None:
        """Bring a row of the next tile's matrices nearer: the processor guesses too late."""
        for matrix, cols in matrices:
            line = matrix.row(row)

            def one(at: Value, line: Value = line) -> None:
                fn.prefetch(line.at(at), is_written)

            fn.loop(0, cols, LINE_NUMBERS, (), one)

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
