"""Graph to graph: rebuild with replacements, substitute leaves, expand named functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chainrule.core.graph import Graph, Node, TensorType, derived_from, walk
from chainrule.core.subgraph import with_subgraphs

Replace = Callable[[Node], Node]
Rule = Callable[[Node, Mapping[Node, Node]], Node | None]


def rebuild(
    outputs: Sequence[Node], replace: Replace, known: Mapping[Node, Node] | None = None
) -> list[Node]:
    """The outputs again, every node handed to ``replace`` once its inputs were."""
    done: dict[Node, Node] = dict(known or {})
    for node in walk(outputs, stop=done.__contains__):
        if node in done:
            continue
        done[node] = replace(_on(done, node))
    return [done[output] for output in outputs]


def _on(done: Mapping[Node, Node], node: Node) -> Node:
    """The node on what stands for its inputs."""
    for child in node.inputs:
        if done[child] is not child:
            return node.with_inputs(tuple([done[child] for child in node.inputs]))
    return node


def substitute(outputs: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """The outputs with some nodes replaced by others."""
    return rebuild(outputs, lambda node: node, mapping)


def rewritten(graph: Graph, replace: Replace) -> Graph:
    """The graph with every node handed to ``replace`` once its inputs were; its inputs stay."""
    done = {node: node for node in graph.inputs}
    for node in graph.nodes:
        if node not in done:
            done[node] = replace(_on(done, node))
    return _with_results(graph, done)


def _with_results(graph: Graph, done: Mapping[Node, Node]) -> Graph:
    """The graph of what stands for the results; itself if they do."""
    if all(done[node] is node for node in graph.results):
        return graph
    outputs = [done[node] for node in graph.outputs]
    return Graph(graph.inputs, outputs, {v: done[node] for v, node in graph.writes.items()})


def replaced(graph: Graph, rule: Rule, first: Sequence[Node] = ()) -> Graph:
    """The graph with other nodes where the rule gives some; its inputs stay.

    The rule gets a node of the graph itself, which it may know by who uses it, and what stands for
    the nodes before; :func:`rewritten` hands over nodes whose inputs were replaced.

    Args:
        first: nodes of the graph that come before all that they do not depend on.
    """
    done = {node: node for node in graph.inputs}
    order = walk((*first, *graph.results), stop=done.__contains__) if first else graph.nodes
    for node in order:
        if node not in done:
            made = rule(node, done)
            done[node] = _on(done, node) if made is None else made
    return _with_results(graph, done)


def body_of(node: Node) -> tuple[Node, ...]:
    """What a named function's node does, one level down, on the node's own inputs."""
    assert node.op.body is not None
    with derived_from(node):
        made = node.op.body(*node.inputs, **node.attrs)
    return made if isinstance(made, tuple) else (made,)


def expand(graph: Graph, keep: Iterable[str] = ()) -> Graph:
    """Named functions opened into primitives, all the way down, but for those in ``keep``."""
    kept = frozenset(keep)
    bodies: dict[Node, tuple[Node, ...]] = {}

    def opened(nodes: tuple[Node, ...], call: Node) -> tuple[Node, ...]:
        edge = {child: child for child in call.inputs}
        return tuple(rebuild(nodes, replace, edge))

    def replace(node: Node) -> Node:
        if node.op.name == "pick" and node.inputs[0] in bodies:
            index: int = node.attrs["index"]
            return bodies[node.inputs[0]][index]
        if node.op.body is None or node.op.name in kept:
            return with_subgraphs(node, lambda inner: expand(inner, kept))
        body = opened(body_of(node), node)
        if isinstance(node.type, TensorType):
            return body[0]
        bodies[node] = body
        return node  # only its picks are read, and they were replaced

    return rewritten(graph, replace)
