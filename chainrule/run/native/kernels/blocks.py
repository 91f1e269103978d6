"""Blocks of matrix products: a few rows pass over a panel, their sums in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from chainrule.run.native.ir import Body, Function, Module, Value, vector
from chainrule.run.native.kernels.calling import LINE_NUMBERS, add_chain
from chainrule.run.native.kernels.packing import Panels

# Steps along k that are written out.
UNROLL = 4
# From this distance on, what lies along m is asked for early.
FAR_APART = 256


class Rows(Panels, Protocol):
    """What :func:`block` is told of A and of the target; see :class:`~.gemm.GemmSpec`."""

    @property
    def a(self) -> str: ...
    @property
    def lda(self) -> int: ...


def block(
    module: Module, name: str, height: int, spec: Rows, asked: Sequence[int] = (),
    more: Sequence[tuple[str, str]] = (), gathers: bool = False,
    amid: Callable[..., Callable[[Value], None]] | None = None,
) -> None:  # fmt: skip
    """A function: a chain of products for a block of rows, added to what is there.

    ``(depth, a, b, ldb, sums, first)``: b is a panel, its rows ldb apart; sums are rows as long as
    a panel is wide. For each of ``asked``, so many lines side by side are asked for in as many
    turns: where they are, and how many elements further the next ones. Four steps are a turn.

    Args:
        gathers: an A along m is copied meanwhile, to where the last argument says, in the order of
            a packed one.
        more: further arguments.
        amid: other work, given the function and them: what it returns is done for each row's number
            amid the products.
    """
    args = (
        ("i64", "depth"), ("ptr noalias readonly", "a"), ("ptr noalias readonly", "b"),
        ("i64", "ldb"), ("ptr noalias", "sums"), ("i1", "first"),
        *((type, f"ask_{type}{i}") for i in range(len(asked)) for type in ("ptr", "i64")), *more,
    )  # fmt: skip
    args += (("ptr noalias", "copy"),) if gathers else ()
    fn = Function(module, name, args, internal=True)
    depth, a, b, ldb, sums, first, *rest = fn.args
    copy = [rest.pop()] if gathers else []
    places, others = rest[: 2 * len(asked)], rest[2 * len(asked) :]
    streams = list(zip(places[::2], places[1::2], asked, strict=True))
    piece = amid(fn, *others) if amid else None
    totals = products(fn, height, spec, depth, a, b, ldb, streams, piece, copy)
    add_chain(sums, totals, range(0, len(totals) * spec.lanes, spec.lanes), first)
    fn.ret()


def products(
    fn: Function, height: int, spec: Rows, depth: Value, a: Value, b: Value, ldb: Value,
    streams: Sequence[tuple[Value, Value, int]] = (),
    piece: Callable[[Value], None] | None = None, copy: Sequence[Value] = (),
) -> list[Value]:  # fmt: skip
    """The sums of a block, in registers; arguments as for :func:`block`.

    Args:
        piece: other work, for the number of a row.
        copy: where an A along m is copied to, if it is.
    """
    type, sums = vector(spec.lanes, "float"), height * spec.panel
    packed = (1, height)
    along_m, along_k = {
        "packed": packed, "gathered": packed, "rows": (spec.lda, 1), "columns": (1, spec.lda)
    }[spec.a]  # fmt: skip

    def deeper(
        totals: list[Value], a: Value, b: Value, copy: Sequence[Value], step: int
    ) -> list[Value]:
        right = [b.at(ldb * step).load(type, spec.lanes * j) for j in range(spec.panel)]
        made = []
        if spec.a == "columns" and spec.lda >= FAR_APART and height >= 6:
            fn.prefetch(a.at(2 * height - 1 + step * along_k))  # for the rows that come next
        for target in copy:
            target.store(a.load(vector(height, "float"), step * along_k), step * height)
        for i in range(height):
            left = fn.splat(a.load("float", i * along_m + step * along_k), spec.lanes)
            made += [fn.fma(left, right[j], totals[i * spec.panel + j]) for j in range(spec.panel)]
        return made

    def steps(count: int) -> Body:
        def body(at: Value, *carried: Value) -> list[Value]:
            totals, (a, b, *copy) = list(carried[:sums]), carried[sums:]
            if count == UNROLL:
                for place, apart, lines in streams:
                    turn = at // UNROLL
                    fn.prefetch(place.at(turn // lines * apart + turn % lines * LINE_NUMBERS))
            for step in range(count):
                totals = deeper(totals, a, b, copy, step)
            copy = [target.at(count * height) for target in copy]
            return [*totals, a.at(count * along_k), b.at(ldb * count), *copy]

        return body

    zero = fn.value(0.0, type)
    found = [*[zero] * sums, a, b, *copy]
    even, start = depth & -UNROLL, fn.value(0, "i64")
    if piece:
        apart = depth // (UNROLL * height) * UNROLL

        def part(number: Value, *carried: Value) -> list[Value]:
            piece(number)
            start = number * apart
            return fn.loop(start, start + apart, UNROLL, carried, steps(UNROLL))

        found, start = fn.loop(0, height, 1, found, part), apart * height
    found = fn.loop(start, even, UNROLL, found, steps(UNROLL))
    found = fn.loop(even, depth, 1, found, steps(1))
    return found[:sums]
