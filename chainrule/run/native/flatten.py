"""Rows of a batch: what follows a matrix product works on the product's own two axes.

``linear`` on (batch, time, features) multiplies a matrix of batch * time rows, and shows the result
with three axes again. Ops on single entries, and sums along the last axis, are moved before that
reshape. No entry changes; but the chain now has the product's shape, and joins it.
"""

from __future__ import annotations

import math

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.shape import broadcast_to, reshape
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import with_subgraphs
from chainrule.run.native.fuse import VIEWS


def flattened(graph: Graph) -> Graph:
    """The same results, reshapes of matrices coming as late as possible."""
    given = frozenset(graph.inputs)

    def replace(node: Node) -> Node:
        if node in given:
            return node
        if node.op.elementwise:
            return _entries(node)
        if node.op.name in ("sum", "amax"):
            return _fold(node)
        return with_subgraphs(node, flattened)

    return rewritten(graph, replace)


def _matrix(node: Node) -> Node | None:
    """The matrix whose rows this shows along more axes."""
    if node.op.name != "reshape" or node.ndim < 3:
        return None
    (inner,) = node.inputs
    return inner if inner.ndim == 2 and inner.shape[-1] == node.shape[-1] else None


def _entries(node: Node) -> Node:
    """An elementwise op, on matrices if one of its operands is one."""
    if node.ndim < 3 or not any(map(_matrix, node.inputs)):
        return node
    rows, columns = math.prod(node.shape[:-1]), node.shape[-1]
    operands = [_as_matrix(operand, rows, columns) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return node
    with derived_from(node):
        made = node.op(*operands, **node.attrs)
        return reshape(made, node.shape)


def _as_matrix(x: Node, rows: int, columns: int) -> Node | None:
    """The operand as a matrix; None where its entries would have to be copied for it."""
    found = _matrix(x)
    if found is not None:
        return found
    if x.op.name != "broadcast_to":
        return None if x.op.name in VIEWS else reshape(x, (rows, columns))
    (inner,) = x.inputs
    if inner.size == 1:
        return broadcast_to(reshape(inner, (1, 1)), (rows, columns))
    if inner.shape[-1] == columns and inner.size == columns:
        return broadcast_to(reshape(inner, (1, columns)), (rows, columns))
    if inner.shape == (*x.shape[:-1], 1):
        column = _matrix(inner)
        if column is None and inner.op.name in VIEWS:
            return None
        return broadcast_to(reshape(inner, (rows, 1)), (rows, columns))
    return None


def _fold(node: Node) -> Node:
    """A sum or maximum along the rows, or along all axes but the last."""
    matrix = _matrix(node.inputs[0])
    if matrix is None:
        return node
    last = node.inputs[0].ndim - 1
    dim = {(last,): 1, tuple(range(last)): 0}.get(node.attrs["dims"])
    if dim is None:
        return node
    with derived_from(node):
        made = node.op(matrix, dims=(dim,), keepdim=node.attrs["keepdim"])
        return reshape(made, node.shape)
