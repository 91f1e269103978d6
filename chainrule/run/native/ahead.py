"""Values that are computed where their operands are made, rather than where they are wanted.

The derivative of an activation is made of what the forward part knows. Where several tensors would
be stored for it and for nothing else, as those of GELU are, it is computed in the forward part
itself: one tensor is stored in their place. The bits are the same: such ops look at one entry at a
time.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chainrule.core.graph import Node
from chainrule.run.native.again import LONGEST

if TYPE_CHECKING:
    from chainrule.run.native.fuse import Fusion, Group


@dataclass(frozen=True)
class _Made:
    """How a value follows from what another group stores.

    Attributes:
        maker: that group.
        loaded: the nodes that it stores.
        nodes: what is computed from them, up to the value.
    """

    maker: Group
    loaded: frozenset[Node]
    nodes: frozenset[Node]


def compute_ahead(fusion: Fusion, computed: Sequence[Node], results: Container[Node]) -> None:
    """Move to the groups before what saves them to store more than one tensor."""
    number = {node: i for i, node in enumerate(computed)}
    for group in fusion.groups:
        if not group.is_chain:
            continue
        found: dict[Node, _Made] = {}
        for node in reversed(group.nodes):
            made = _made(node, group, found, fusion)
            if made is not None:
                found[node] = made
        for node, made in reversed(found.items()):
            if node in group.nodes and _saves(node, made, fusion, results):
                moved = made.nodes
                group.nodes = [each for each in group.nodes if each not in moved]
                nodes = {*made.maker.nodes, *moved}
                made.maker.nodes = sorted(nodes, key=number.__getitem__, reverse=True)
                fusion.of |= dict.fromkeys(moved, made.maker)
                fusion.stored -= made.loaded
                fusion.stored.add(node)
    fusion.groups = [group for group in fusion.groups if group.nodes or group.product]


def _made(node: Node, group: Group, found: Mapping[Node, _Made], fusion: Fusion) -> _Made | None:
    """How the node follows from one other group, if it does."""
    if not node.op.elementwise or node.shape != group.shape:
        return None
    known = []
    for child in node.inputs:
        base = fusion.base(child)
        if base.op.name == "constant":
            continue
        if child is not base:
            return None
        if child in found:
            known.append(found[child])
        elif child in fusion.stored and fusion.of[child] is not group:
            known.append(_Made(fusion.of[child], frozenset([child]), frozenset()))
        else:
            return None
    makers = {id(each.maker): each.maker for each in known}
    if len(makers) != 1:
        return None
    (maker,) = makers.values()
    loaded = frozenset().union(*(each.loaded for each in known))
    nodes = frozenset([node]).union(*(each.nodes for each in known))
    return _Made(maker, loaded, nodes)


def _saves(node: Node, made: _Made, fusion: Fusion, results: Container[Node]) -> bool:
    """Whether the value takes the place of several that nobody else reads."""
    maker = made.maker
    if not maker.is_chain or maker.split is not None or maker.shape != node.shape:
        return False
    if len(made.loaded) < 2 or len(maker.nodes) + len(made.nodes) > LONGEST:
        return False
    if not fusion.is_alike(node, maker):
        return False
    inside = {*maker.nodes, *made.nodes}
    hidden = made.loaded | (made.nodes - {node})
    return not any(
        each in results or any(use.user not in inside for use in fusion.uses[each])
        for each in hidden
    )
