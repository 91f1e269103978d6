"""What follows from a little data alone is computed when it is made.

Means and deviations of a data set, samples put in a batch, an index plus one: a program computes
such things all the time, and none of them is worth a graph of its own, nor a plan. That holds for
primitives, and for the functions named here; those of networks wait, and what reads a variable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.arrays import Array, owned
from chainrule.core.graph import Node, TensorType
from chainrule.core.op import CONSTANT, Op
from chainrule.run.interpreter import evaluate, quietly

# Arrays of more entries wait, and are computed together with what uses them.
_ENTRIES = 1_000
# A function of more nodes than these is worth a plan.
_NODES = 32
_FUNCTIONS = frozenset(("mean", "var", "square"))


def pointwise(op: Op, operands: Sequence[Any]) -> Node | None:
    """An elementwise op on a little data and numbers; None if it is something else."""
    arrays: list[Any] = []
    for operand in operands:
        if isinstance(operand, Node):
            array = operand.value
            if array is None or operand.needs_grad or array.size > _ENTRIES:
                return None
            arrays.append(array)
        else:
            arrays.append(operand)
    if not op.elementwise or op.evaluate is None:
        return None
    recipe = op.recipe(operands)
    if recipe is None:
        return None
    given = [np.asarray(array, fit.dtype) for array, fit in zip(arrays, recipe.fits, strict=True)]
    result = quietly(op.evaluate, *given)
    return Node(op, (), {}, recipe.type, owned(np.asarray(result)))


def small_value(node: Node) -> Array | None:
    """The node's array, if data is all that it is a function of, and all of it is small.

    Nodes that a tensor stands for were tried when that was made, and are not looked into again.
    """
    if node.needs_grad or not node.inputs or node.trace or not _is_simple(node.op):
        return None
    for child in node.inputs:
        if child.value is None and (child.holders or child.needs_grad):
            return None
    order: dict[Node, None] = {}
    return quietly(_computed, list(order)) if _is_near(node, order) else None


def _is_simple(op: Op) -> bool:
    return op.body is None or op.name in _FUNCTIONS


def _is_near(node: Node, order: dict[Node, None]) -> bool:
    """Whether a node is known, or follows from known ones; those to compute are added in order."""
    if node.value is not None:
        return node.value.size <= _ENTRIES
    if node in order:
        return True
    if node.op is not CONSTANT:
        if not node.inputs or node.holders or node.needs_grad or node.trace:
            return False
        if not _is_simple(node.op):
            return False
        types = (node.type,) if isinstance(node.type, TensorType) else node.type
        if any(math.prod(type.shape) > _ENTRIES for type in types):
            return False
        for child in node.inputs:
            if not _is_near(child, order):
                return False
    order[node] = None
    return len(order) <= _NODES


def _computed(order: Sequence[Node]) -> Array:
    """The last of the nodes' array."""
    found: dict[Node, Any] = {}
    for node in order:
        arrays = [found[x] if x.value is None else x.value for x in node.inputs]
        found[node] = evaluate(node, arrays)
    return owned(found[node])
