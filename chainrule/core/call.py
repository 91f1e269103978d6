"""A computation that was built before, as one node: uncompiled programs build the same each step.

A call has the results of its body on other inputs. It is opened before anything runs: no executor
ever sees one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chainrule.core.graph import Graph, Node, ResultType, TensorType, walk
from chainrule.core.op import Notation, Op, pick
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import Subgraph, copied


def _types(*types: ResultType, body: Subgraph) -> tuple[TensorType, ...]:
    return body.types


def called(body: Subgraph, inputs: Sequence[Node]) -> list[Node]:
    """The results of the body on other inputs."""
    call = Node(CALL, tuple(inputs), {"body": body}, body.types)
    return [pick(call, index) for index in range(len(body.types))]


def _opened(*inputs: Node, body: Subgraph) -> tuple[Node, ...]:
    return tuple(copied(body.outputs, dict(zip(body.inputs, inputs, strict=True))))


# Not in the table of ops: it is never printed, exported or run.
CALL = Op("call", _types, body=_opened, arity=None, notation=Notation("call", "call"))


def inlined(graph: Graph) -> Graph:
    """The graph with every call replaced by its body."""
    bodies: dict[Node, tuple[Node, ...]] = {}

    def replace(node: Node) -> Node:
        if node.op is CALL:
            bodies[node] = _opened(*node.inputs, **node.attrs)
        elif node.op.name == "pick" and node.inputs[0] in bodies:
            index: int = node.attrs["index"]
            return bodies[node.inputs[0]][index]
        return node

    return rewritten(graph, replace)


def closed(outputs: Sequence[Node], inputs: Mapping[Node, Node]) -> Subgraph:
    """A subgraph that computes the outputs from other inputs, and keeps nothing of theirs alive.

    Args:
        outputs: nodes that depend on nothing but the keys of ``inputs``.
        inputs: the placeholder for each node that is not to be computed again.
    """
    done = dict(inputs)
    made: list[Node] = []
    for node in walk(outputs, stop=done.__contains__):
        if node not in done:
            twin = node.with_inputs(tuple(done[child] for child in node.inputs))
            twin.needs_grad = node.needs_grad
            twin.trace = 0
            done[node] = twin
            made.append(twin)
    for twin in (*inputs.values(), *made):
        twin.origin = done.get(twin.origin) if twin.origin else None
    return Subgraph(list(inputs.values()), [done[output] for output in outputs])
