"""Graph to graph: rebuild with replacements, substitute leaves, expand named functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chainrule.core.graph import Graph, Node, TensorType, derived_from, walk
from chainrule.core.subgraph import with_subgraphs

Replace = Callable[[Node], Node]


def rebuild(
    outputs: Sequence[Node], replace: Replace, known: Mapping[Node, Node] | None = None
) -> list[Node]:
    """The outputs again, every node handed to ``replace`` once its inputs were."""
    done: dict[Node, Node] = dict(known or {})
    for node in walk(outputs, stop=done.__contains__):
        if node in done:
            continue
        inputs = tuple(done[child] for child in node.inputs)
        changed = any(a is not b for a, b in zip(inputs, node.inputs, strict=True))
        done[node] = replace(node.with_inputs(inputs) if changed else node)
    return [done[output] for output in outputs]


def substitute(outputs: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """The outputs with some nodes replaced by others."""
    return rebuild(outputs, lambda node: node, mapping)


def rewritten(graph: Graph, replace: Replace) -> Graph:
    """The graph with every node handed to ``replace``; its inputs stay."""
    kept = {node: node for node in graph.inputs}
    results = rebuild(graph.results, replace, kept)
    outputs, writes = results[: len(graph.outputs)], results[len(graph.outputs) :]
    return Graph(graph.inputs, outputs, dict(zip(graph.writes, writes, strict=True)))


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
