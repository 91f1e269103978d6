"""Matrix products of anything but float32, written as sums of products.

They are rare and small: positions, counts, masks. Whole numbers wrap around, as in NumPy; of truth
values a product is "and" and a sum is "or".
"""

from __future__ import annotations

from chainrule.core.dtype import bool_, float32, int32
from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.arithmetic import cast, mul
from chainrule.core.ops.reduction import SUM
from chainrule.core.ops.shape import broadcast_to, reshape, transpose
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import with_subgraphs


def summed(graph: Graph) -> Graph:
    """The graph without such products."""
    given = frozenset(graph.inputs)

    def replace(node: Node) -> Node:
        if node in given:
            return node
        if node.op.name == "matmul" and node.dtype != float32:
            with derived_from(node):
                return _sum_of_products(*node.inputs)
        return with_subgraphs(node, summed)

    return rewritten(graph, replace)


def _sum_of_products(a: Node, b: Node) -> Node:
    """y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]."""
    dtype = a.dtype
    if dtype == bool_:
        a, b = cast(a, int32), cast(b, int32)
    *batch, m, k = a.shape
    n = b.shape[-1]
    shape = (*batch, m, n, k)
    left = broadcast_to(reshape(a, (*batch, m, 1, k)), shape)
    right = broadcast_to(reshape(transpose(b), (*batch, 1, n, k)), shape)
    return cast(SUM(mul(left, right), dims=(len(shape) - 1,), keepdim=False), dtype)
