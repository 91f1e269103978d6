"""A pass over scans: loops over the same steps become one, and do only what somebody reads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from chainrule.core.graph import Graph, Node, derived_from, walk
from chainrule.core.ops.scan import SCAN
from chainrule.core.rewrite import replaced
from chainrule.core.subgraph import Subgraph


def tidy(graph: Graph) -> Graph:
    """The same results from fewer loops and shorter steps.

    A derivative runs the loop again that it is the derivative of, with more results; both become
    one. What nobody reads is left out: the cotangent of the data, say, or residuals at inference.
    """
    loops: dict[Hashable, list[Node]] = {}
    read: dict[Node, set[int]] = {}
    given = set(graph.inputs)
    for node in graph.nodes:
        if node in given:
            continue
        if node.op is SCAN:
            loops.setdefault(_steps(node), []).append(node)
        elif node.op.name == "pick" and node.inputs[0].op is SCAN:
            read.setdefault(node.inputs[0], set()).add(node.attrs["index"])
    if not loops:
        return graph
    merged = {node: _Merged(group, read) for group in loops.values() for node in group[:1]}
    first = {node: group[0] for group in loops.values() for node in group}

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        if node in first:
            loop = first[node]
            return done[loop] if loop in done else merged[loop].rebuilt(done)
        if node.op.name == "pick" and node.inputs[0] in first:
            loop = node.inputs[0]
            index = merged[first[loop]].position(loop, node.attrs["index"])
            return node.with_inputs((done[loop],)).with_attrs({"index": index})
        return None

    return replaced(graph, rule)


def _steps(node: Node) -> Hashable:
    """Equal for loops that take the same steps, whatever they write out."""
    body, count = node.attrs["body"], node.attrs["carries"]
    return (
        node.inputs,
        body.inputs,
        body.outputs[:count],
        node.attrs["length"],
        node.attrs["reverse"],
    )


class _Merged:
    """Loops that take the same steps, as one that gives what is read of them."""

    def __init__(self, group: Sequence[Node], read: Mapping[Node, set[int]]) -> None:
        self._loop = group[0]
        body, count = self._loop.attrs["body"], self._loop.attrs["carries"]
        holes = body.inputs
        self._written = {  # ordered, each once
            loop.attrs["body"].outputs[index]: None
            for loop in group
            for index in sorted(read.get(loop, ()))
            if index >= count
        }
        live = {index for loop in group for index in read.get(loop, ()) if index < count}
        while True:  # a carry is needed too where another result reads it
            wanted = [*(body.outputs[index] for index in live), *self._written]
            used = set(walk(wanted, stop=set(holes).__contains__))
            more = {index for index in range(count) if holes[index] in used}
            if more <= live:
                break
            live |= more
        self._carries = sorted(live)
        self._kept = [
            index for index, hole in enumerate(holes)
            if (index in live if index < count else hole in used)
        ]  # fmt: skip

    def position(self, loop: Node, index: int) -> int:
        """Where a result of one of the loops stands among the results of the merged one."""
        if index < loop.attrs["carries"]:
            return self._carries.index(index)
        node = loop.attrs["body"].outputs[index]
        return len(self._carries) + list(self._written).index(node)

    def rebuilt(self, done: Mapping[Node, Node]) -> Node:
        """The loop, on inputs that were rebuilt."""
        loop, body = self._loop, self._loop.attrs["body"]
        inner = Subgraph(
            [body.inputs[index] for index in self._kept],
            [*(body.outputs[index] for index in self._carries), *self._written],
        ).changed(tidy)
        end = loop.attrs["carries"] + loop.attrs["scanned"]
        attrs = dict(loop.attrs)
        attrs["body"] = inner
        attrs["carries"] = len(self._carries)
        attrs["scanned"] = sum(index < end for index in self._kept) - len(self._carries)
        with derived_from(loop):
            made = SCAN(*(done[loop.inputs[index]] for index in self._kept), **attrs)
        made.origin = loop.origin
        return made
