"""Which nodes run together: the graph cut into groups, each of which becomes one task.

A group passes over the entries of one shape. It holds elementwise nodes of that shape, sums and
maxima along its last axes, elementwise nodes on those, and perhaps the matrix product that all this
follows, or the max pooling that follows all this. Nodes are looked at from the results backwards; a
node joins a group that uses it, the one nearest to the inputs first, unless another group that uses
it comes before that one: no group may wait for itself. At last, a value that is a few cheap ops
away from one tensor in memory, such as a normalised activation, is computed again wherever it is
wanted: that costs less than to store and to load it. The cut depends on the graph alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from chainrule.core.graph import Graph, Node, Shape, TensorType
from chainrule.run.native.again import LONGEST, compute_again
from chainrule.run.native.ahead import compute_ahead
from chainrule.run.native.kernels.rows import WAITING_COLS, WAITING_VALUES
from chainrule.run.native.parts import ROW_PART
from chainrule.run.native.winners import SPREAD, sees_windows

VIEWS = ("reshape", "permute", "broadcast_to", "slice", "flip", *SPREAD)
PRODUCTS = ("matmul", "convolution")
LEAVES = ("input", "read", "constant", "iota")

# A product is followed at once by what touches so few tensors of its size; for Adam's update, with
# three to read and three to write, that still pays.
_FEW = 7
# Ops from two sums back to a value that both read.
_NEAR = 3


@dataclass(eq=False)
class Group:
    """Nodes that become one task.

    Attributes:
        shape: the entries passed over.
        level: larger than that of every group that uses its results.
        feeders: the groups whose results it uses.
        nodes: its nodes, the last first.
        split: how many leading axes make up the rows, where there are sums along rows.
        product: the matrix product or convolution whose entries it reads as they are made.
        pool: the max pooling that reads its entries, the last of its nodes.
        is_chain: whether elementwise nodes may join; else it is one node with a kernel of its own.
    """

    shape: Shape
    level: int
    feeders: list[Group] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    split: int | None = None
    product: Node | None = None
    pool: Node | None = None
    is_chain: bool = True

    def waits_for(self, other: Group) -> bool:
        """Whether the other has to run before this one."""
        open_, seen = [self], {id(self)}
        while open_:
            for feeder in open_.pop().feeders:
                if feeder is other:
                    return True
                if feeder.level < other.level and id(feeder) not in seen:
                    seen.add(id(feeder))
                    open_.append(feeder)
        return False

    def lift(self, level: int) -> None:
        """Raise the level, and with it those of the groups before."""
        if self.level < level:
            self.level = level
            for feeder in self.feeders:
                feeder.lift(level + 1)

    @property
    def row_shape(self) -> Shape | None:
        """The shape of a value per row; None without rows."""
        if self.split is None:
            return None
        return self.shape[: self.split] + (1,) * (len(self.shape) - self.split)

    def is_row(self, node: Node) -> bool:
        """Whether the node has one value per row of this group."""
        return self.split is not None and node.shape != self.shape

    @property
    def cols(self) -> int:
        return math.prod(self.shape[self.split :])


@dataclass(frozen=True)
class Use:
    """A node reads another, perhaps through views."""

    user: Node
    child: Node


class Fusion:
    """The groups of a graph of primitives.

    Attributes:
        groups: them, in no particular order.
        of: the group of each node that is computed.
        stored: the nodes whose values leave their group.
        uses: who reads each node.
        picks: the results of nodes that have several.
    """

    def __init__(
        self, graph: Graph, fused: bool = True, settled: Collection[Node] = frozenset()
    ) -> None:
        """What is ``settled`` shares no group with what is not: it need not run every time."""
        self.fused, self._settled = fused, settled
        self._given = {*graph.inputs, *graph.reads.values()}
        self.groups: list[Group] = []
        self.of: dict[Node, Group] = {}
        self.stored: set[Node] = set()
        self.uses: dict[Node, list[Use]] = {}
        self.picks: dict[Node, list[Node]] = {}
        self._scalars: list[Group] = []
        self._folds: list[Group] = []
        results = {self.base(node) for node in graph.results}
        computed = [node for node in graph.nodes if self.is_computed(node)]
        self.reads = frozenset(graph.reads.values())
        for node in computed:
            for child in node.inputs:
                self.uses.setdefault(self.base(child), []).append(Use(node, child))
        for node in graph.nodes:
            if self.is_pick(node):
                self.picks.setdefault(node.inputs[0], []).append(node)
        for node in reversed(computed):
            self._place(node, node in results)
        if fused:
            compute_ahead(self, computed, results)
            compute_again(self, computed, results)

    def base(self, node: Node) -> Node:
        """The node whose entries a view shows."""
        while node.op.name in VIEWS and node not in self._given:
            node = node.inputs[0]
        return node

    def is_leaf(self, node: Node) -> bool:
        return node in self._given or node.op.name in LEAVES

    def is_pick(self, node: Node) -> bool:
        return node.op.name == "pick" and node not in self._given

    def is_computed(self, node: Node) -> bool:
        return not (self.is_leaf(node) or self.is_pick(node) or node.op.name in VIEWS)

    # ------------------------------------------------------------------ placing one node

    def _place(self, node: Node, is_result: bool) -> None:
        picks = self.picks.get(node, [])
        uses = [use for each in (node, *picks) for use in self.uses.get(each, ())]
        users = {id(self.of[use.user]): self.of[use.user] for use in uses}
        group = self._joined(node, uses, list(users.values()))
        if group is None:
            level = 1 + max((user.level for user in users.values()), default=0)
            group = self._started(node, level)
        self.of |= dict.fromkeys((node, *picks), group)
        for user in users.values():
            if user is not group and all(feeder is not group for feeder in user.feeders):
                user.feeders.append(group)
        if is_result or len(users) > (group is users.get(id(group))) or not users:
            self.stored.add(node)

    def _started(self, node: Node, level: int) -> Group:
        """A new group with this node alone."""
        if node.op.name == "window_max":
            group = Group(node.inputs[0].shape, level, nodes=[node], pool=node)
        elif not isinstance(node.type, TensorType):
            group = Group((), level, nodes=[node], is_chain=False)
        elif is_row_reduction(node):
            dims: Shape = node.attrs["dims"]
            group = Group(node.inputs[0].shape, level, nodes=[node], split=dims[0])
            self._folds.append(group)
        else:
            chain = node.op.elementwise or node.op.name in PRODUCTS
            group = Group(node.shape, level, nodes=[node], is_chain=chain)
            if node.op.name in PRODUCTS:
                group.nodes, group.product = [], node
            if node.op.elementwise and node.shape == ():
                self._scalars.append(group)
        self.groups.append(group)
        return group

    def _joined(self, node: Node, uses: list[Use], users: list[Group]) -> Group | None:
        """The group that the node joins, if there is one."""
        if not self.fused:
            return None
        for group in sorted(users, key=lambda group: -group.level):
            others = [other for other in users if other is not group]
            if not group.is_chain or any(group.waits_for(other) for other in others):
                continue
            inside = [use for use in uses if self.of[use.user] is group]
            if not self.is_alike(node, group):
                continue
            if self._joins(node, inside, group):
                group.lift(1 + max((other.level for other in others), default=0))
                return group
        if node.op.elementwise and node.shape == ():
            highest = max((user.level for user in users), default=0)
            for group in self._scalars:  # numbers share a task, related or not
                alike = self.is_alike(node, group)
                if alike and group.level > highest and len(group.nodes) < LONGEST:
                    group.nodes.append(node)
                    return group
        return self._shared_pass(node, users) if is_row_reduction(node) else None

    def is_alike(self, node: Node, group: Group) -> bool:
        """Whether both are settled, or neither."""
        member = group.product or group.nodes[0]
        return (node in self._settled) == (member in self._settled)

    def _shared_pass(self, node: Node, users: list[Group]) -> Group | None:
        """A group of other sums that passes over the same values."""
        for group in reversed(self._folds):
            if (
                not self.is_alike(node, group)
                or group in users
                or group.product is not None
                or len(group.nodes) >= LONGEST
            ):
                continue
            if group.shape != node.inputs[0].shape or group.split != node.attrs["dims"][0]:
                continue
            related = any(_is_related(node, each) for each in group.nodes if is_row_reduction(each))
            if related and not any(group.waits_for(user) for user in users):
                group.nodes.append(node)
                group.lift(1 + max((user.level for user in users), default=0))
                return group
        return None

    def _joins(self, node: Node, uses: list[Use], group: Group) -> bool:
        """Add the node to a group that uses it, if it fits in."""
        if len(group.nodes) >= LONGEST or any(use.user is group.product for use in uses):
            return False
        if group.product is not None and sees_windows(node):
            return False
        split = group.split
        if node.op.name in PRODUCTS:
            return self._becomes_product(node, uses, group)
        if node.op.elementwise and node.shape == group.shape:
            if any(use.child is not node for use in uses):
                return False
        elif not self._fits_row(node, uses, group):
            return False
        group.nodes.append(node)
        if group.split is not None and not self.fits_waiting(group, group.nodes[::-1]):
            group.nodes.pop()
            group.split = split
            return False
        return True

    def fits_waiting(self, group: Group, nodes: Sequence[Node]) -> bool:
        """Whether values along a row that are wanted again after a sum find room to wait.

        Args:
            nodes: the group's, the first first, or what they would be.
        """
        sums: dict[Node, int] = {}  # how many sums, one after the other, come before the node
        waiting = set()
        for node in nodes:
            known = [child for child in map(self.base, node.inputs) if child in sums]
            late = max((sums[child] for child in known), default=0)
            waiting |= {child for child in known if sums[child] < late and not group.is_row(child)}
            sums[node] = late + is_row_reduction(node)
        return len(waiting) <= (WAITING_VALUES if group.cols <= WAITING_COLS else 0)

    def _becomes_product(self, node: Node, uses: list[Use], group: Group) -> bool:
        if group.product is not None or group.split is not None or node.shape != group.shape:
            return False
        if group.pool is not None:
            return False
        if any(map(sees_windows, group.nodes)):
            return False
        if node in self._results_of(uses) or self._width(node, group) > _FEW:
            return False
        group.product = node
        return True

    def _results_of(self, uses: list[Use]) -> set[Node]:
        """The nodes among them that are read through a view."""
        return {self.base(use.child) for use in uses if use.child is not self.base(use.child)}

    def _width(self, node: Node, group: Group) -> int:
        """How many tensors of the product's size its group reads and writes."""
        members = {*group.nodes, node}
        read = {
            self.base(child)
            for member in group.nodes
            for child in member.inputs
            if self.base(child) not in members and self.base(child).size == node.size > 1
        }
        return len(read) + sum(member in self.stored for member in group.nodes)

    def _fits_row(self, node: Node, uses: list[Use], group: Group) -> bool:
        """Whether a sum along rows, or a chain on such sums, can be part of the group."""
        if group.product is not None or group.pool is not None:
            return False
        if is_row_reduction(node) and node.attrs["keepdim"]:
            if node.inputs[0].shape != group.shape or group.split not in (
                None,
                node.attrs["dims"][0],
            ):
                return False
            split: int | None = node.attrs["dims"][0]
        elif node.op.elementwise and node.shape == group.row_shape:
            split = group.split
        elif node.op.elementwise and group.split is None and node.ndim == len(group.shape):
            split = max((axis + 1 for axis, n in enumerate(node.shape) if n != 1), default=0)
            if not split or node.shape[:split] != group.shape[:split]:
                return False
        else:
            return False
        assert split is not None
        cols = math.prod(group.shape[split:])
        if cols > ROW_PART or 0 in group.shape:
            return False
        for use in uses:
            copied = use.child.op.name == "broadcast_to" and use.child.inputs[0] is node
            full = use.user.shape == group.shape or is_row_reduction(use.user)
            if not (copied and full) and not (use.child is node and group.is_row(use.user)):
                return False
        group.split = split
        return True


def _is_related(a: Node, b: Node) -> bool:
    """Whether two sums read the same value, by way of a few ops on single entries."""
    found = []
    for fold in (a, b):
        reached = level = {fold.inputs[0]}
        for _ in range(_NEAR):
            level = {
                child for node in level if node.op.elementwise for child in node.inputs
                if child.shape == fold.inputs[0].shape and child.op.name != "broadcast_to"
            }  # fmt: skip
            reached = reached | level
        found.append(reached)
    return not found[0].isdisjoint(found[1])


def is_row_reduction(node: Node) -> bool:
    """Whether the node folds its last axes, and only those."""
    if node.op.name not in ("sum", "amax"):
        return False
    dims: Shape = node.attrs["dims"]
    ndim = node.inputs[0].ndim
    return dims == tuple(range(ndim - len(dims), ndim))
