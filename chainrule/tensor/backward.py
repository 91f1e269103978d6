"""Back-propagation from a loss to the variables behind it.

An uncompiled program builds the same graph at every step. Its gradients are derived once per
structure and kept as a subgraph; later steps call it on their own values. The numbers are the same:
the call is opened before it runs, and what it shares with the forward pass is computed once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from chainrule.core.call import called, closed
from chainrule.core.dtype import default_dtype
from chainrule.core.grad import gradients
from chainrule.core.graph import (
    Node,
    Variable,
    derived_from,
    needing_gradients,
    place,
    program_order,
    walk,
)
from chainrule.core.op import INPUT, READ, WRITTEN, input
from chainrule.core.ops.shape import BROADCAST
from chainrule.core.subgraph import Subgraph, kind_of

_KEPT = 256
# For each structure: the derivative, which of the nodes at the edge it takes, and to which of the
# variables among them its results belong.
_Derivative = tuple[Subgraph, tuple[int, ...], tuple[int, ...]]
_derivatives: OrderedDict[Hashable, _Derivative] = OrderedDict()


def parts_of(loss: Node, seed: Node | None) -> dict[Variable, Node] | None:
    """dL/dv of the trainable variables behind the loss, as nodes that need no gradient themselves.

    Args:
        loss: what is differentiated.
        seed: dL/d(loss); None: 1.

    Returns:
        None if nothing behind the loss is trainable.
    """
    if not place.trace:
        return _called(loss, seed)
    behind = walk([loss], stop=_is_edge)  # a trace is read by others, and built once
    reads = [node for node in behind if _is_trainable(node)]
    with needing_gradients(False):
        made = gradients([loss], reads, None if seed is None else [seed])
    found = zip(reads, made, strict=True)
    parts = {read.attrs["variable"]: part for read, part in found if part is not None}
    return parts if reads else None


def _called(loss: Node, seed: Node | None) -> dict[Variable, Node] | None:
    key, edge = _structure(loss, seed)
    derivative = _derivatives.get(key)
    with derived_from(loss, gradients=False):
        if derivative is None:
            derivative = _derivatives[key] = _derived(loss, seed, edge)
            if len(_derivatives) > _KEPT:
                _derivatives.popitem(last=False)
        body, taken, graded = derivative
        if not graded:
            return {} if any(map(_is_trainable, edge)) else None
        parts = called(body, [edge[index] for index in taken])
        variables = [edge[number].attrs["variable"] for number in graded]
        return dict(zip(variables, parts, strict=True))


def _derived(loss: Node, seed: Node | None, edge: Sequence[Node]) -> _Derivative:
    numbers = [number for number, node in enumerate(edge) if _is_trainable(node)]
    reads = [edge[number] for number in numbers]
    made = gradients([loss], reads, None if seed is None else [seed])
    graded = tuple(n for n, part in zip(numbers, made, strict=True) if part is not None)
    parts = [part for part in made if part is not None]
    used = set(walk(parts, stop=set(edge).__contains__))
    taken = tuple(index for index, node in enumerate(edge) if node in used)
    holes = {edge[index]: input(edge[index].tensor_type, "x") for index in taken}
    return closed(parts, holes), taken, graded


def is_variable(node: Node) -> bool:
    """Whether the node is the value of a variable, read or just written."""
    return node.op is READ or node.op is WRITTEN


def _is_trainable(node: Node) -> bool:
    return node.needs_grad and is_variable(node)


def _structure(loss: Node, seed: Node | None) -> tuple[Hashable, list[Node]]:
    """Equal for losses with the same derivative; and the nodes that it is a function of.

    Those are the variables, data, and what is known: it is not computed again.
    """
    found, seen = [loss], {loss}
    edge: list[Node] = []
    inner: list[Node] = []
    for node in found:
        if _is_edge(node):
            edge.append(node)
            continue
        inner.append(node)
        for child in node.inputs:
            if child not in seen:
                seen.add(child)
                found.append(child)
    inner.sort(key=program_order)  # the edge may be older than the step
    number = {node: index for index, node in enumerate((*edge, *inner))}
    rows: list[Hashable] = []
    for node in edge:
        rows += (node.type, node.needs_grad, is_variable(node))
    for node in inner:
        known = node.value is not None
        if known:
            edge.append(node)
        rows += (node.kind or kind_of(node), node.needs_grad, known)
        if node.op.arity is None:
            rows.append(len(node.inputs))
        for child in node.inputs:
            rows.append(number[child])
    if seed is not None:
        edge.append(seed)
    return (tuple(rows), seed is None, default_dtype()), edge


def _is_edge(node: Node) -> bool:
    """Where back-propagation ends, but for constants, which are part of the structure."""
    if node.needs_grad:
        return node.op is READ or node.op is WRITTEN
    if node.inputs and node.value is None:
        return node.op is not BROADCAST
    return node.value is not None or node.op is INPUT or node.op is READ
