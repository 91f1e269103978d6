"""Products of a row and a matrix: c = a B, B packed in panels beforehand.

Every number of B is read once, so this is as fast as memory. A tile is a few panels side by side:
the chain of fused products of one entry has to wait for itself, others fill the time. Chains run
and are cut as in ``gemm``: a row gets the same bits alone as among others.

A loop reads the same B in every lap. If it goes through the panels to and fro, what it read last is
read first in the next lap, and is still in the cache where B as a whole does not fit.
"""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.ir import Body, Function, Module, Value, vector
from chainrule.run.native.kernels.blocks import UNROLL
from chainrule.run.native.kernels.calling import CHAIN, Call, add_chain
from chainrule.run.native.kernels.following import following
from chainrule.run.native.program import Program


class MatvecSpec(NamedTuple):
    """Key of :func:`matvec`.

    Attributes:
        program: what follows; its step named ``"product"`` is the entry of a B.
        lanes, panel: the target's shape.
        panels: in a tile: 4, 2 or 1.
        turns: the panels are read from the last on where a number in memory says so.
        axes: 1, for what follows.
    """

    program: Program
    lanes: int
    panel: int
    panels: int
    turns: bool
    axes: int = 1


def matvec(module: Module, name: str, spec: MatvecSpec) -> None:
    """Arguments: a, B, the number if it turns, operands; n, k; for each operand strides along
    batch, column, and row if FAR, as for :func:`gemm`.
    """
    counts = [count for count in (4, 2, 1) if count <= spec.panels]
    for count in counts:
        _chain(module, f"chain{count}", count, spec)
    call = Call(module, name)
    fn, width = call.fn, spec.lanes * spec.panel
    a, b = call.tensor(), call.tensor()
    turn = call.tensor() if spec.turns else None
    bases = [call.tensor() for _ in spec.program.operands]
    n, k = call.number(), call.number()
    panels, tile = (n + (width - 1)) // fn.value(width, "i64"), call.tile
    if turn is not None:
        last = (panels - 1) // fn.value(spec.panels, "i64")
        tile = fn.select(turn.load("i64").compare("eq", 0), tile, last - tile)
    first = tile * spec.panels
    panels = fn.minimum(panels - first, spec.panels)
    b = b.at(first * (k * width))
    sums = call.scratch

    def chain(start: Value) -> None:
        depth = fn.minimum(k - start, CHAIN)
        fresh = start.compare("eq", 0)
        at: Value = fn.value(0, "i64")
        for count in counts:
            here = at

            def some(count: int = count, here: Value = here) -> None:
                place = b.at(here * (k * width) + start * width)
                args = depth, a.at(start), place, k * width, sums.at(here * width), fresh
                fn.call(f"chain{count}", "void", *args)

            fn.when((panels & count).compare("ne", 0), some)
            at = at + (panels & count)

    last = fn.select(k.compare("sgt", 0), k, fn.value(1, "i64"))  # one pass if k is 0
    fn.loop(0, last, CHAIN, (), chain)
    zero, left = fn.value(0, "i64"), first * width
    line = spec._replace(panel=spec.panel * spec.panels)
    rest = following(call, line, bases, [zero])
    rest.write(zero, left, fn.value(1, "i64"), fn.minimum(n - left, spec.panels * width), sums)
    fn.ret()


def _chain(module: Module, name: str, count: int, spec: MatvecSpec) -> None:
    """A function: a chain for some panels, added to what is there.

    ``(depth, a, b, step, sums, first)``: panels are ``step`` apart.
    """
    args = (
        ("i64", "depth"), ("ptr noalias readonly", "a"), ("ptr noalias readonly", "b"),
        ("i64", "step"), ("ptr noalias", "sums"), ("i1", "first"),
    )  # fmt: skip
    fn = Function(module, name, args, internal=True)
    depth, a, b, step, sums, first = fn.args
    type, width = vector(spec.lanes, "float"), spec.lanes * spec.panel

    def steps(unrolled: int) -> Body:
        def body(_: Value, *carried: Value) -> list[Value]:
            totals = list(carried[: count * spec.panel])
            a, *panels = carried[count * spec.panel :]
            for i in range(unrolled):
                left = fn.splat(a.load("float", i), spec.lanes)
                for j in range(len(totals)):
                    panel, part = divmod(j, spec.panel)
                    right = panels[panel].load(type, i * width + part * spec.lanes)
                    totals[j] = fn.fma(left, right, totals[j])
            return [*totals, a.at(unrolled), *(panel.at(unrolled * width) for panel in panels)]

        return body

    zero = fn.value(0.0, type)
    panels = [b.at(step * i) for i in range(count)]
    even = depth & -UNROLL
    carried = [*[zero] * (count * spec.panel), a, *panels]
    carried = fn.loop(0, even, UNROLL, carried, steps(UNROLL))
    carried = fn.loop(even, depth, 1, carried, steps(1))
    totals = carried[: count * spec.panel]

    add_chain(sums, totals, range(0, len(totals) * spec.lanes, spec.lanes), first)
    fn.ret()
