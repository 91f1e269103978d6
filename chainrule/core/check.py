"""The rules of a graph, checked after every pass in the tests."""

from __future__ import annotations

from chainrule.core.graph import Graph, TensorType
from chainrule.core.subgraph import subgraphs
from chainrule.errors import ChainruleError, VerifierError


def verify(graph: Graph, stage: str = "building") -> Graph:
    """The graph itself, or an error that names the first broken rule."""

    def fail(problem: str) -> None:
        raise VerifierError(stage=stage, problem=problem)

    given = set(graph.inputs)
    if len(given) != len(graph.inputs):
        fail("an input stands twice")
    seen = set()
    read = set()
    for node in graph.nodes:
        if node not in given:
            if node.op.name == "input":
                fail(f"{node!r} is an input that nobody hands in")
            if node.op.name == "read":
                if node.attrs["variable"] in read:
                    fail(f"{node.attrs['variable']!r} is read through two nodes")
                read.add(node.attrs["variable"])
            if any(child not in seen for child in node.inputs):
                fail(f"{node!r} stands before one of its inputs")
            if node.op.arity not in (None, len(node.inputs)):
                fail(f"{node!r} has {len(node.inputs)} inputs, not {node.op.arity}")
            try:
                inferred = node.op.infer(*[child.type for child in node.inputs], **node.attrs)
            except ChainruleError as error:
                fail(f"{node!r}: {error}")
            if inferred != node.type:
                fail(f"{node!r} should be {inferred}")
            for inner in subgraphs(node):
                verify(inner, f"{stage}, inside {node.op.name}")
                if inner.reads:
                    fail(f"{node!r} reads a variable inside; it has to come in as an input")
        seen.add(node)
    for variable, node in graph.writes.items():
        if node.type != variable.type:
            fail(f"{variable!r} would be given a value of type {node.type}")
    for node in graph.outputs:
        if not isinstance(node.type, TensorType):
            fail(f"the output {node!r} has several results")
    return graph
