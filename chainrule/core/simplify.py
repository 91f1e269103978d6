"""Bit-exact simplification: equal nodes become one, and a few identities are applied.

Nothing here may change a bit of any result: no x * 0, no x + 0 (it turns -0 into 0), no
reassociation.
"""

from __future__ import annotations

from collections.abc import Hashable

from chainrule.core.graph import Graph, Node, TensorType
from chainrule.core.ops.shape import broadcast_to, permute, reshape
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import exact_attrs, with_subgraphs


def simplify(graph: Graph) -> Graph:
    """The same results from fewer nodes; what no result needs is gone."""
    known: dict[Hashable, Node] = {}
    given = frozenset(graph.inputs)

    def replace(node: Node) -> Node:
        if node in given:
            return node
        node = with_subgraphs(_identity(node), simplify)
        return known.setdefault(node_key(node), node)

    return rewritten(graph, replace)


def node_key(node: Node) -> Hashable:
    """Equal for nodes that compute the same bits; provenance plays no part."""
    if node.op.name == "input":
        return node
    return (node.op.name, node.inputs, exact_attrs(node.attrs))


def _identity(node: Node) -> Node:
    """A node that gives the same bits with less work, or the node itself."""
    name = node.op.name
    if name in ("mul", "div") and _is_constant(node.inputs[1], 1):
        return node.inputs[0]
    if name == "mul" and _is_constant(node.inputs[0], 1):
        return node.inputs[1]
    if name == "neg" and node.inputs[0].op.name == "neg":
        return node.inputs[0].inputs[0]
    if name in ("stop_gradient", "written"):
        return node.inputs[0]
    if name in ("reshape", "permute", "broadcast_to"):
        return _merge_views(node)
    return node


def _merge_views(node: Node) -> Node:
    inner = node.inputs[0]
    if inner.op is not node.op:
        return node
    source = inner.inputs[0]
    if node.op.name == "reshape":
        return reshape(source, node.attrs["shape"])
    if node.op.name == "broadcast_to":
        return broadcast_to(source, node.attrs["shape"])
    return permute(source, tuple(inner.attrs["dims"][dim] for dim in node.attrs["dims"]))


def _is_constant(node: Node, value: float) -> bool:
    if node.op.name == "broadcast_to":
        node = node.inputs[0]
    if node.op.name != "constant" or not isinstance(node.type, TensorType):
        return False
    return bool(node.attrs["value"] == value)
