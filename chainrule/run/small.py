"""What follows from a little data alone is computed when it is made.

Means and deviations of a data set, samples put in a batch, an index plus one: a program computes
such things all the time, and none of them is worth a graph of its own, nor a plan. That holds for
primitives, and for the functions named here; those of networks wait, and what reads a variable.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from chainrule.core.arrays import Array, owned
from chainrule.core.dtype import DType, default_dtype
from chainrule.core.graph import Node, TensorType
from chainrule.core.op import CONSTANT, Op
from chainrule.run.interpreter import evaluate, quietly

# Arrays of more entries wait, and are computed together with what uses them.
_ENTRIES = 1_000
# A function of more nodes than these is worth a plan.
_NODES = 32
_FUNCTIONS = frozenset(("mean", "var", "square"))
# Of an elementwise op on operands of some types: the types of the result and of its inputs.
_rules: dict[tuple[Hashable, ...], tuple[TensorType, list[DType]]] = {}
_RULES_KEPT = 1_000


def pointwise(op: Op, operands: Sequence[Any]) -> Node | None:
    """An elementwise op on a little data and numbers; None if it is something else."""
    key: list[Any] = [op, default_dtype()]
    arrays: list[Any] = []
    for operand in operands:
        if isinstance(operand, Node):
            array = operand.value
            if array is None or operand.needs_grad or array.size > _ENTRIES:
                return None
            key.append(operand.type)
            arrays.append(array)
        else:
            key.append(type(operand))
            arrays.append(operand)
    if not op.elementwise or op.evaluate is None:
        return None
    rule = _rules.get(tuple(key))
    if rule is None:
        made = op(*operands)
        if len(_rules) == _RULES_KEPT:
            _rules.clear()
        rule = _rules[tuple(key)] = made.tensor_type, [child.dtype for child in made.inputs]
    type_, dtypes = rule
    given = [np.asarray(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
    result = quietly(op.evaluate, *given)
    return Node(op, (), {}, type_, owned(np.asarray(result)))


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
