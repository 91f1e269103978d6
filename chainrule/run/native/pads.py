"""The gradients of slices, put side by side instead of added as zeros and entries.

The gradient of x[:, :k] and of x[:, k:] is each padded with zeros to the shape of x, and the two
are added. Where the parts cover all of x and do not overlap, they are set into their places; every
entry is still added to 0, which turns -0 into 0, so that no bit differs. Gradients of attention
have no -0: they are made in their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.op import constant
from chainrule.core.ops.arithmetic import add
from chainrule.core.ops.shape import concatenate
from chainrule.core.rewrite import replaced
from chainrule.run.native.attention import BACKWARD


class _Part(NamedTuple):
    """A node between zeros, and where it starts along the axis."""

    start: int
    node: Node


def joined(graph: Graph) -> Graph:
    """The graph with sums of parts that fit together as concatenations."""
    uses: dict[Node, int] = {}
    for node in graph.nodes:
        for child in node.inputs:
            uses[child] = uses.get(child, 0) + 1
    inner = {
        child
        for node in graph.nodes
        for child in node.inputs
        if node.op.name == child.op.name == "add" and uses[child] == 1
    }
    chains = {
        node: found
        for node in graph.nodes
        if node.op.name == "add" and node not in inner and (found := _parts(node, inner))
    }
    if not chains:
        return graph

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        if node not in chains:
            return None
        dim, parts = chains[node]
        with derived_from(node):
            zero = constant(0.0, node.dtype)
            nodes = [done[part.node] for part in parts]
            return concatenate([x if _is_positive_zero(x) else add(x, zero) for x in nodes], dim)

    return replaced(graph, rule)


def _is_positive_zero(node: Node) -> bool:
    """Whether every 0 in it is known to be no -0."""
    while node.op.name in ("reshape", "permute"):
        (node,) = node.inputs
    return node.op.name == "pick" and node.inputs[0].op is BACKWARD


def _parts(node: Node, inner: set[Node]) -> tuple[int, list[_Part]] | None:
    """The axis and the parts in order, if the node is the sum of parts that fit together."""
    leaves: list[Node] = []
    open_ = [node]
    while open_:
        each = open_.pop()
        if each is node or each in inner:
            open_ += each.inputs
        else:
            leaves.append(each)
    if node.dtype.kind != "f" or any(leaf.op.name != "pad" for leaf in leaves):
        return None
    axes = {
        axis
        for leaf in leaves
        for axis in range(node.ndim)
        if leaf.inputs[0].shape[axis] != node.shape[axis]
    }
    if len(axes) != 1 or any(any(leaf.attrs["interior"]) for leaf in leaves):
        return None
    (dim,) = axes
    parts = [_Part(leaf.attrs["low"][dim], leaf.inputs[0]) for leaf in leaves]
    parts.sort(key=lambda part: part.start)
    end = 0
    for part in parts:
        if part.start != end:
            return None
        end += part.node.shape[dim]
    return (dim, parts) if end == node.shape[dim] else None
