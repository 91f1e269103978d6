"""Values that are computed again where they are wanted, rather than stored and loaded.

Memory is slower than a few products and sums. What is a few cheap ops away from one tensor that is
in memory anyway, such as a normalised activation, is computed in every group that wants it. The
bits are the same: such ops look at one entry at a time.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chainrule.core.graph import Node
from chainrule.run.native.winners import SPREAD, sees_windows

if TYPE_CHECKING:
    from chainrule.run.native.fuse import Fusion, Group

# A group of more nodes than this costs more to compile than it saves.
LONGEST = 64
# Ops that cost less than to store and to load, and how many of them are computed again at most.
CHEAP = frozenset(
    ("add", "sub", "mul", "neg", "where", "maximum", "minimum", "equal", "not_equal", "less",
     "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_not")
)  # fmt: skip
_AGAIN = 8


@dataclass(frozen=True)
class _Chain:
    """Cheap ops from one tensor in memory, and what is smaller, to the last of the nodes.

    None: from what stands once per window, and smaller things alone.
    """

    source: Node | None
    nodes: tuple[Node, ...]


def compute_again(fusion: Fusion, computed: Sequence[Node], results: Container[Node]) -> None:
    """Let groups compute cheap values of other groups themselves, so that they need no memory."""
    number = {node: i for i, node in enumerate(computed)}
    chains: dict[Node, _Chain] = {}  # of values that are not stored
    for node in computed:
        chain = _chain_to(node, fusion, chains)
        if chain is None or node in results:
            continue
        groups = {id(fusion.of[use.user]): fusion.of[use.user] for use in fusion.uses.get(node, ())}
        groups.pop(id(fusion.of[node]), None)
        larger = {
            id(group): sorted({*group.nodes, *chain.nodes}, key=number.__getitem__)
            for group in groups.values()
        }
        if not all(_takes(fusion, g, chain, larger[id(g)]) for g in groups.values()):
            continue
        chains[node] = chain
        fusion.stored.discard(node)
        for group in groups.values():
            group.nodes = larger[id(group)][::-1]
            members = {*group.nodes, group.product}
            fusion.stored |= {
                base for each in chain.nodes for base in map(fusion.base, each.inputs)
                if base in fusion.of and base not in members
            }  # fmt: skip


def _chain_to(node: Node, fusion: Fusion, chains: Mapping[Node, _Chain]) -> _Chain | None:
    """How the node follows from one tensor in memory, if it does."""
    if node.op.name not in CHEAP:
        return None
    sources: set[Node | None] = set()
    nodes: dict[Node, None] = {}
    for child in node.inputs:
        base = fusion.base(child)
        if base.size < node.size:  # a number, or one per row or window
            if child.op.name in SPREAD:
                sources.add(None)
            continue
        if child is not base or child.shape != node.shape:
            return None
        known = chains.get(child) or _Chain(child, ())
        sources.add(known.source)
        nodes |= dict.fromkeys(known.nodes)
    full = sources - {None}
    costs = sum(not sees_windows(each) for each in nodes)  # that comes close to a load
    if not sources or len(full) > 1 or costs >= _AGAIN:
        return None
    source = next(iter(full), None)
    if source is not None and (
        source in fusion.reads or not (fusion.is_leaf(source) or source in fusion.stored)
    ):
        return None
    return _Chain(source, (*nodes, node))


def _takes(fusion: Fusion, group: Group, chain: _Chain, nodes: Sequence[Node]) -> bool:
    """Whether the group may compute the chain itself, and so have these nodes."""
    node = chain.nodes[-1]
    if not group.is_chain or group.shape != node.shape or len(nodes) > LONGEST:
        return False
    if group.split is not None and not fusion.fits_waiting(group, nodes):
        return False
    if group.product is not None and (
        node in map(fusion.base, group.product.inputs) or any(map(sees_windows, nodes))
    ):
        return False
    if not all(_suits_rows(child, group) for each in chain.nodes for child in each.inputs):
        return False
    uses = [use for use in fusion.uses[node] if fusion.of[use.user] is group]
    return all(use.child is node for use in uses)


def _suits_rows(child: Node, group: Group) -> bool:
    """Whether an operand is the same all along the group's rows, or nowhere stretched in them."""
    if group.split is None:
        return True
    given = child.inputs[0].shape if child.op.name == "broadcast_to" else child.shape
    row = ((1,) * (len(group.shape) - len(given)) + given)[group.split :]
    return set(row) <= {1} or row == group.shape[group.split :]
