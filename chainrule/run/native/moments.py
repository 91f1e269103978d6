"""Variances over several runs of axes in one pass over memory: each row has moments of its own.

The sum of squares about the mean m of all rows is, over the rows p with n entries and the mean m_p,

    sum (x - m)^2  =  sum over p of ( sum (x - m_p)^2 + n (m_p - m)^2 ).

So a row is read for its sum and, while it is in the cache, for its squares; the few numbers of the
rows are merged in order.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1982.
"""

from __future__ import annotations

import math

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.op import constant
from chainrule.core.ops.arithmetic import add, div, mul, sub
from chainrule.core.ops.reduction import SUM
from chainrule.core.ops.shape import broadcast_to
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import with_subgraphs


def by_rows(graph: Graph) -> Graph:
    """The graph with such variances taken row by row; sums have one run of axes (``planes``)."""
    given = frozenset(graph.inputs)

    def replace(node: Node) -> Node:
        if node in given:
            return node
        if node.op.name == "sum" and node.attrs["keepdim"]:
            found = _deviation(node)
            if found is not None:
                with derived_from(node):
                    return _merged(node, *found)
        return with_subgraphs(node, by_rows)

    return rewritten(graph, replace)


def _deviation(node: Node) -> tuple[Node, Node, Node] | None:
    """Of a sum of squared deviations: what deviates, its sums along rows, the mean of all."""
    rows = node.inputs[0]
    if rows.op.name != "sum" or rows.inputs[0].op.name != "mul":
        return None
    deviation, again = rows.inputs[0].inputs
    if deviation is not again or deviation.op.name != "sub":
        return None
    x, copied = deviation.inputs
    if copied.op.name != "broadcast_to" or copied.inputs[0].op.name != "div":
        return None
    mean = copied.inputs[0]
    total = mean.inputs[0]
    if total.op is not SUM or total.attrs != node.attrs or total.inputs[0].op is not SUM:
        return None
    sums = total.inputs[0]
    return (x, sums, mean) if sums.inputs[0] is x and sums.attrs == rows.attrs else None


def _merged(node: Node, x: Node, sums: Node, mean: Node) -> Node:
    dims: tuple[int, ...] = sums.attrs["dims"]
    length = broadcast_to(constant(float(math.prod(x.shape[d] for d in dims)), x.dtype), sums.shape)
    center = div(sums, length)
    deviation = sub(x, broadcast_to(center, x.shape))
    squares = SUM(mul(deviation, deviation), **sums.attrs)
    apart = sub(center, broadcast_to(mean, center.shape))
    return SUM(add(squares, mul(length, mul(apart, apart))), **node.attrs)
