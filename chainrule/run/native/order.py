"""In which order groups run, and which variables can be updated where they stand.

A variable is written in place if every group that reads its old value, and every group that looks
at indices, can run before the group that writes. Else the new value waits in the arena and is
copied at the end of the run.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from chainrule.core.graph import Graph, Node, Variable
from chainrule.core.subgraph import subgraphs
from chainrule.run.native.fuse import Fusion, Group

CHECKING = ("take", "take_add", "put", "gather", "gather_add")


def checks(node: Node) -> bool:
    """Whether the node, or one inside it, may find an index out of range."""
    inside = (each for inner in subgraphs(node) for each in inner.nodes)
    return node.op.name in CHECKING or any(map(checks, inside))


@dataclass(eq=False)
class Copy:
    """A result that no group computes in its place: an input, a view, or one that stands twice.

    Without a place to go to, it is kept for a copy at the end, before its variable is written over.
    """

    source: Node
    output: int | None = None
    variable: Variable | None = None


@dataclass
class Schedule:
    """What runs when.

    Attributes:
        order: groups and copies.
        at_output: nodes that are computed in the place of an output, by its number.
        at_variable: nodes that are computed in the place of a variable.
    """

    order: list[Group | Copy]
    at_output: dict[Node, int]
    at_variable: dict[Node, Variable]


class _Scheduler:
    def __init__(self, graph: Graph, fusion: Fusion) -> None:
        self.graph, self.fusion = graph, fusion
        self.items: list[Group | Copy] = list(fusion.groups)
        self.copies: list[Copy] = []
        self.number = {id(item): i for i, item in enumerate(self.items)}
        self.at_output: dict[Node, int] = {}
        self.at_variable: dict[Node, Variable] = {}
        reads = {node: variable for variable, node in graph.reads.items()}
        self.readers: dict[Variable, set[int]] = {}
        self.before: list[set[int]] = [set() for _ in self.items]
        self.checking: set[int] = set()
        place = {node: i for i, node in enumerate(graph.nodes)}
        for i, group in enumerate(fusion.groups):
            members = {*group.nodes, *([group.product] if group.product else [])}
            for node in sorted(members, key=place.__getitem__):
                if checks(node):
                    self.checking.add(i)
                for child in node.inputs:
                    base = fusion.base(child)
                    if base in reads:
                        self.readers.setdefault(reads[base], set()).add(i)
                    elif base in fusion.of and base not in members and fusion.of[base] is not group:
                        self.before[i].add(self.number[id(fusion.of[base])])
        self.reads = reads

    def schedule(self) -> Schedule:
        late: list[Copy] = []
        for variable, node in self.graph.writes.items():
            free = node in self.fusion.of and node not in self.at_variable
            free &= not self.fusion.is_pick(node)
            if free and self._in_place(variable, node):
                self.at_variable[node] = variable
            else:
                late.append(Copy(node, variable=variable))
        for position, node in enumerate(self.graph.outputs):
            placed = node in self.at_variable or node in self.at_output
            if node in self.fusion.of and not placed:
                self.at_output[node] = position
            else:
                self._add_copy(Copy(node, output=position))
        for copy in late:
            if self.fusion.base(copy.source) in self.reads:
                self._add_copy(Copy(copy.source))
        return Schedule([*self._ordered(), *late], self.at_output, self.at_variable)

    def _add_copy(self, copy: Copy) -> None:
        """A copy of an output: it reads what it shows, before that is written over."""
        number = len(self.items)
        self.items.append(copy)
        base = self.fusion.base(copy.source)
        self.before.append(set())
        if base in self.reads:
            variable = self.reads[base]
            self.readers.setdefault(variable, set()).add(number)
            for node, written in self.at_variable.items():
                if written is variable:
                    self.before[self.number[id(self.fusion.of[node])]].add(number)
        elif base in self.fusion.of:
            self.before[number].add(self.number[id(self.fusion.of[base])])

    def _in_place(self, variable: Variable, node: Node) -> bool:
        """Whether the node's group may write over the variable; if so, it waits for the readers."""
        group = self.fusion.of[node]
        writer = self.number[id(group)]
        readers = self.readers.get(variable, set())
        if writer in readers and not self._reads_entry_by_entry(group, variable, node):
            return False
        first = (readers | self.checking) - {writer}
        after = self._after(writer)
        if first & after:
            return False
        self.before[writer] |= first
        return True

    def _reads_entry_by_entry(self, group: Group, variable: Variable, node: Node) -> bool:
        """Whether each entry is read just before it is written."""
        read = self.graph.reads[variable]
        if not group.is_chain or group.split is not None or node.shape != read.shape:
            return False
        if group.product is not None and any(
            self.fusion.base(child) is read for child in group.product.inputs
        ):
            return False
        seen = {child for member in group.nodes for child in member.inputs}
        return all(child is read for child in seen if self.fusion.base(child) is read)

    def _after(self, start: int) -> set[int]:
        """Everything that has to wait for an item."""
        followers: dict[int, list[int]] = {}
        for i, before in enumerate(self.before):
            for earlier in before:
                followers.setdefault(earlier, []).append(i)
        found: set[int] = set()
        open_ = [start]
        while open_:
            for follower in followers.get(open_.pop(), ()):
                if follower not in found:
                    found.add(follower)
                    open_.append(follower)
        return found

    def _ordered(self) -> list[Group | Copy]:
        """Each item after what it waits for; else in the order of the program."""
        place = {node: i for i, node in enumerate(self.graph.nodes)}
        priority = [_position(item, place) for item in self.items]
        waiting = [len(before) for before in self.before]
        followers: list[list[int]] = [[] for _ in self.items]
        for i, before in enumerate(self.before):
            for earlier in before:
                followers[earlier].append(i)
        ready = [(priority[i], i) for i, count in enumerate(waiting) if not count]
        heapq.heapify(ready)
        order = []
        while ready:
            _, i = heapq.heappop(ready)
            order.append(self.items[i])
            for follower in followers[i]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    heapq.heappush(ready, (priority[follower], follower))
        assert len(order) == len(self.items), "groups wait for each other"
        return order


def _position(item: Group | Copy, place: dict[Node, int]) -> int:
    if isinstance(item, Copy):
        return place[item.source]
    nodes = [*item.nodes, *([item.product] if item.product else [])]
    return max(place[node] for node in nodes)


def scheduled(graph: Graph, fusion: Fusion) -> Schedule:
    """The order of a graph's groups."""
    return _Scheduler(graph, fusion).schedule()
