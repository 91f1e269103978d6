"""Values that are not laid out one after the other: parts of a whole, and rows with gaps.

A part of a concatenation is computed in its place there, so that nothing is copied. Rows that a
product reads or writes have gaps between them, where they would all fall on the same lines of the
cache. Both hold for values that chains of ops compute, which write any strides. What a chain reads
along rows has to be one axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chainrule.core.graph import Graph, Node
from chainrule.run.native.fuse import Fusion
from chainrule.run.native.products import ALIASING
from chainrule.run.native.program import Program
from chainrule.run.native.views import View, merged

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# A part is computed in its place if so many entries of it lie side by side.
_LONG_RUN = 64
# Numbers between rows.
GAP = 16


def parts_of(graph: Graph, fusion: Fusion) -> dict[Node, tuple[Node, int]]:
    """Nodes that are computed in their place in a concatenation: it, and their position there."""
    found: dict[Node, tuple[Node, int]] = {}
    for whole in graph.nodes:
        if whole.op.name != "concatenate" or whole not in fusion.of:
            continue
        for position, part in enumerate(whole.inputs):
            group = fusion.of.get(part)
            run = math.prod(part.shape[whole.attrs["dim"] :])
            if group and group.is_chain and part.shape == group.shape and run >= _LONG_RUN:
                found.setdefault(part, (whole, position))
    return found


def with_gaps(graph: Graph, fusion: Fusion) -> set[Node]:
    """What products read or write, where its rows would all fall on the same lines of the cache."""
    found = set()
    for node in graph.nodes:
        group = fusion.of.get(node)
        if group and group.product is not None and group.product.op.name == "matmul":
            found.add(node)
        if node.op.name == "matmul" and group:
            x = node.inputs[0]
            while x.op.name == "reshape" and x.inputs[0].shape[-1:] == x.shape[-1:]:
                x = x.inputs[0]
            found.add(x)
    return {node for node in found if _is_aliasing(node) and _takes_gaps(node, fusion)}


def straightened(
    lowering: Lowering, program: Program, views: Sequence[View], split: int
) -> list[View]:
    """Views whose axes from ``split`` on are one along memory: what is none is copied."""
    shape = views[0].shape
    written = {operand for _, operand in program.stores}
    made = []
    for number, view in enumerate(views):
        spread = len(merged(shape[split:], [view.strides[split:]])[0]) > 1
        made.append(lowering.gathered(view) if spread and number not in written else view)
    inner, _ = merged(shape[split:], [view.strides[split:] for view in made])
    if len(inner) > 1:  # stretched along some of the columns
        made = [
            view if number in written or not any(view.strides[split:]) else lowering.gathered(view)
            for number, view in enumerate(views)
        ]
    return made


def _is_aliasing(node: Node) -> bool:
    nbytes = node.shape[-1] * node.dtype.itemsize if node.ndim > 1 else 0
    return nbytes > 0 and nbytes % ALIASING == 0


def _takes_gaps(node: Node, fusion: Fusion) -> bool:
    """Whether what computes the node can leave room between its rows."""
    group = fusion.of.get(node)
    if group is None:
        return False
    if fusion.is_pick(node) and node.inputs[0].op.name == "scan":
        loop, index = node.inputs[0], node.attrs["index"]
        made: Node = loop.attrs["body"].outputs[index]
        stacked = index >= loop.attrs["carries"]
        return stacked and (made.op.elementwise or made.op.name in ("matmul", "concatenate"))
    return group.is_chain and node.shape == group.shape
