"""Back-propagation as a rewrite: from a graph, the graph of its gradients.

Walking the nodes from the loss back, each node turns the cotangent of its result, dL/dy, into a
cotangent for each input, dL/dx = dL/dy * dy/dx (the chain rule); where a value was used several
times, its cotangents are added. The rules build ordinary nodes, so gradients have gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.core.dtype import is_float
from chainrule.core.graph import (
    Node,
    TensorType,
    derived_from,
    needing_gradients,
    walk,
)
from chainrule.core.op import Joint, results
from chainrule.core.ops.shape import full
from chainrule.core.rewrite import body_of

Cotangents = dict[Node, list[Node | None]]


def gradients(
    outputs: Sequence[Node],
    wrt: Sequence[Node],
    cotangents: Sequence[Node] | None = None,
) -> list[Node | None]:
    """d(sum of outputs * cotangents) / d(each of ``wrt``), as nodes.

    Args:
        outputs: the nodes to differentiate; scalars where ``cotangents`` is not given.
        wrt: any nodes: leaves or values on the way.
        cotangents: dL/d(output), of the outputs' types; ones when not given.

    Returns:
        For each of ``wrt`` a node of its type, or None where the outputs do not depend on it.
    """
    targets = set(wrt)
    order = walk(outputs, stop=lambda node: not node.inputs)
    reached = _reached(order, targets)
    flowing: Cotangents = {}
    seeds = cotangents or [full(node.shape, 1, node.dtype) for node in outputs]
    for output, seed in zip(outputs, seeds, strict=True):
        _add(flowing, output, 0, seed)
    found: dict[Node, Node] = {}
    for node in reversed(order):
        if node not in flowing or node not in reached:
            continue
        arrived = flowing.pop(node)
        if node in targets and arrived[0] is not None:
            found[node] = arrived[0]
        if not node.inputs:
            continue
        if node.op.name == "pick":
            _add(flowing, node.inputs[0], node.attrs["index"], arrived[0])
            continue
        wanted = [child in reached for child in node.inputs]
        for child, part in zip(node.inputs, _back(node, arrived, wanted), strict=True):
            if part is not None and child in reached:
                _add(flowing, child, 0, part)
    return [found.get(node) for node in wrt]


def _reached(order: Sequence[Node], targets: set[Node]) -> set[Node]:
    """The nodes through which a gradient can flow to a target."""
    reached: set[Node] = set()
    for node in order:
        differentiable = not isinstance(node.type, TensorType) or is_float(node.dtype)
        through = node.op.passes_gradient and any(child in reached for child in node.inputs)
        if differentiable and (node in targets or (through and not _made_under_no_grad(node))):
            reached.add(node)
    return reached


def _made_under_no_grad(node: Node) -> bool:
    """Its inputs need a gradient, and it does not."""
    return not node.needs_grad and any(child.needs_grad for child in node.inputs)


def _add(flowing: Cotangents, node: Node, index: int, part: Node | None) -> None:
    """One more cotangent for a result of ``node``; several are summed."""
    count = 1 if isinstance(node.type, TensorType) else len(node.type)
    slots = flowing.setdefault(node, [None] * count)
    before = slots[index]
    if part is None or before is None:
        slots[index] = part if before is None else before
        return
    with derived_from(node, phase="backward"):
        slots[index] = before + part


def _back(
    node: Node, arrived: Sequence[Node | None], wanted: Sequence[bool]
) -> Sequence[Node | None]:
    """The cotangents of a node's inputs, from those of its results."""
    derivative = node.op.derivative
    with derived_from(node, phase="backward"):
        outputs = results(node)
        filled = [
            part if part is not None else full(output.shape, 0, output.dtype)
            for part, output in zip(arrived, outputs, strict=True)
        ]
        single = isinstance(node.type, TensorType)
        g = filled[0] if single else filled
        y = node if single else outputs
        if isinstance(derivative, Joint):
            return derivative.rule(g, y, *node.inputs, **node.attrs)
        if derivative is not None:
            parts: list[Node | None] = []
            for position, want in enumerate(wanted):
                rule = (
                    derivative[position] if isinstance(derivative, tuple) else derivative(position)
                )
                made = rule(g, y, *node.inputs, **node.attrs) if want and rule else None
                parts.append(made)
            return parts
    with needing_gradients(True):  # the body is part of what is differentiated
        body = body_of(node)
    chosen = [child for child, want in zip(node.inputs, wanted, strict=True) if want]
    through = dict(zip(chosen, gradients(body, chosen, filled), strict=True))
    # A child that stands twice among the inputs gets its whole cotangent once.
    return [through.pop(child, None) for child in node.inputs]
