"""How far a result in float32 may be from the exact one: a running error analysis, op by op.

Beside every value goes a bound of its error. An op adds what its own roundings may amount to
(``ROUNDINGS``), and hands on what its operands bring along: sums and products by their absolute
values, other ops by evaluating them at both ends of each operand's interval. So each case of each
op gets the tolerance that follows from its own numbers; none is chosen by hand. Values are exact in
the sense of float64, terms of second order are left out.

Source: N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.3 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.dtype import is_float
from chainrule.core.graph import Array, Graph, Node
from chainrule.core.rewrite import expand
from chainrule.run import interpreter

# Half a unit in the last place of 1: what one rounding may amount to, relative to the result.
UNIT = 2.0**-24
# Smaller results may come out as 0.
TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)

# Roundings of an op's own result, twice the units in the last place of the table in
# docs/accuracy.md. What is not named here is exact, but for sums and products of arrays, whose
# roundings grow with the number of their terms.
ROUNDINGS = {
    "add": 1, "sub": 1, "mul": 1, "div": 1, "sqrt": 1, "remainder": 1, "floor_divide": 1,
    "exp": 2, "log": 2, "expm1": 1.02, "log1p": 1.02, "sin": 1.02, "cos": 1.02, "atan": 1.02,
    "tanh": 3, "erf": 2.4, "pow": 1.02,
}  # fmt: skip
# What float32 holds exactly comes out exactly, if the operands are exact.
ROUNDED_ONCE = ("add", "sub", "mul", "div", "sqrt")
SUMS = ("sum", "cumsum", "take_add", "gather_add")
PRODUCTS = ("matmul", "convolution")
# Entries of the result are entries of the first operand, or 0.
MOVES = (
    "reshape", "permute", "broadcast_to", "slice", "pad", "flip", "concatenate", "take", "gather",
    "put", "stop_gradient", "written",
)  # fmt: skip
WINDOWS = ("amax", "max_pool", "adaptive_max_pool")


class Known(NamedTuple):
    """A value, and how far float32 may be from it."""

    value: Array
    error: Array


def known(array: Array) -> Known:
    """What is given, without an error."""
    value = array.astype(np.float64) if is_float(array.dtype) else array
    return Known(value, np.zeros(array.shape))


def bounded(nodes: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Array]) -> list[Known]:
    """The exact values of float32 outputs for these inputs, and the bounds of their errors."""
    graph = expand(Graph(nodes, outputs))
    variables = [known(np.asarray(variable.value)) for variable in graph.reads]
    plan = interpreter.Plan(graph, using=_bound)
    found: list[Any] = plan([known(x) for x in arrays], variables)  # type: ignore[arg-type]
    return found


def _bound(node: Node, operands: Sequence[Any]) -> Any:
    """The rule of the node's op."""
    name = node.op.name
    if name == "scan":
        return _scan(node, operands)
    if name == "pick":
        return operands[0][node.attrs["index"]]
    if name == "sort":
        return _sort(node, operands[0])
    values = [operand.value for operand in operands]
    errors = [operand.error for operand in operands]
    value = interpreter.evaluate(node, values)
    if name in WINDOWS and isinstance(value, tuple):
        error = interpreter.evaluate(node, errors)[0]
        return Known(value[0], error), known(value[1])
    if not is_float(node.dtype):
        return Known(np.asarray(value), np.zeros(np.shape(value)))
    value = np.asarray(value, np.float64)
    value = np.where(np.abs(value) > LARGEST * (1 + UNIT), np.copysign(np.inf, value), value)
    finite = [np.where(np.isfinite(each), each, 0) for each in values]
    if name in WINDOWS:
        error = interpreter.evaluate(node, errors)
    elif name in MOVES:
        # indices, and truth values, stay as they are
        moved = [e if is_float(x.dtype) else x for x, e in zip(values, errors, strict=True)]
        error = interpreter.evaluate(node, moved)
    elif name in SUMS:
        first = [np.abs(finite[0]), *values[1:]]
        terms = interpreter.evaluate(node, [np.ones(values[0].shape), *values[1:]])
        error = interpreter.evaluate(node, [errors[0], *values[1:]])
        error = error + np.maximum(terms - 1, 0) * UNIT * interpreter.evaluate(node, first)
    elif name in PRODUCTS:
        error = _product(node, [np.abs(each) for each in finite], errors)
    elif name == "cast":
        is_exact = is_float(node.inputs[0].dtype) or node.inputs[0].dtype.itemsize < 4
        error = errors[0] + (0 if is_exact else UNIT) * np.abs(value)
    else:
        brought = _spread(node, values, errors, value)
        error = brought + ROUNDINGS.get(name, 0) * UNIT * np.abs(value)
    if name in ROUNDINGS or name in PRODUCTS:
        error = error + TINY
    if name in ROUNDED_ONCE:
        is_exact = (brought == 0) & (value.astype(np.float32) == value)
        error = np.where(is_exact, 0.0, error)
    return Known(value, np.where(np.isfinite(value), error, 0.0))


def _product(node: Node, sizes: Sequence[Array], errors: Sequence[Array]) -> Array:
    """As many roundings as an entry has terms."""
    a, b = sizes
    terms = b.shape[-2] if node.op.name == "matmul" else math.prod(b.shape[1:])

    def of(x: Array, w: Array) -> Array:
        return np.asarray(interpreter.evaluate(node, [x, w]))

    return terms * UNIT * of(a, b) + of(errors[0], b) + of(a, errors[1])


def _spread(node: Node, values: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    """How far the result moves when each operand goes to the ends of its interval."""
    total = np.zeros(value.shape)
    for place, error in enumerate(errors):
        if not np.any(error):
            continue
        ends = []
        for moved in (values[place] - error, values[place] + error):
            found = interpreter.evaluate(node, [*values[:place], moved, *values[place + 1 :]])
            ends.append(np.abs(np.asarray(found, np.float64) - value))
        total = total + np.maximum(*ends)
    return total


def _sort(node: Node, x: Known) -> tuple[Known, Known]:
    values, order = interpreter.evaluate(node, [x.value])
    error = np.take_along_axis(x.error, order, node.attrs["dim"])
    return Known(values, error), known(order)


def _scan(node: Node, operands: Sequence[Known]) -> tuple[Known, ...]:
    """The loop itself, on values with bounds."""
    at = node.attrs
    body = interpreter.Plan(expand(at["body"]), using=_bound)
    first, last = at["carries"], at["carries"] + at["scanned"]
    carry, xs, rest = list(operands[:first]), operands[first:last], operands[last:]
    slices: dict[int, list[Any]] = {}
    steps = range(at["length"])[:: -1 if at["reverse"] else 1]
    for t in steps:
        made: list[Any] = body([*carry, *(Known(x.value[t], x.error[t]) for x in xs), *rest], ())  # type: ignore[list-item]
        carry, slices[t] = made[:first], made[first:]
    ys = zip(*(slices[t] for t in sorted(slices)), strict=True)
    stacked = [
        Known(np.stack([y.value for y in each]), np.stack([y.error for y in each])) for each in ys
    ]
    return (*carry, *stacked)
