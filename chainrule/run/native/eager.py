"""Which uncompiled programs run natively (decision 3).

A plan takes tens of milliseconds, the interpreter starts at once: a graph with much to do is worth
a plan. So is a small training step, since it comes again many times; but not one of many nodes with
little in them: that is a loop written out, of another length in every batch. What the optimizer
does counts for nothing there, since it follows from the parameters. The choice depends on the graph
alone, so that a run that is resumed takes the same path.
"""

from __future__ import annotations

import math

from chainrule.core.graph import Graph, Node, TensorType

# Entries computed, products counted as such: what the interpreter does in about a millisecond.
LITTLE = 1_000_000
# A graph that writes several variables and has so many nodes is a training step; one that draws the
# initial values of a weight has about ten.
STEP = 20
# With fewer nodes, those of the update apart, it is a small one.
WRITTEN_OUT = 256


def is_little(graph: Graph) -> bool:
    """Whether a plan of the graph would cost more than it saves."""
    is_step = len(graph.writes) > 1 and len(graph.nodes) >= STEP
    if is_step and sum(node.phase != "update" for node in graph.nodes) < WRITTEN_OUT:
        return False
    return work(graph) < LITTLE


def work(graph: Graph) -> int:
    """How many entries are computed; an entry of a matrix product counts as its terms."""
    return sum(_work(node) for node in graph.nodes if node.inputs)


def _work(node: Node) -> int:
    types = (node.type,) if isinstance(node.type, TensorType) else node.type
    size = sum(type.size for type in types)
    if node.op.name in ("matmul", "linear"):
        return size * node.inputs[0].shape[-1]
    if node.op.name == "convolution":
        return size * math.prod(node.inputs[1].shape[1:])
    return size * (node.attrs["length"] if node.op.name == "scan" else 1)
