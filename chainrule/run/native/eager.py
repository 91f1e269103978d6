"""Which uncompiled programs run natively (decision 3).

Graphs with little work run on the interpreter, which starts at once. How much is little depends on
the graph alone, so that a run that is resumed takes the same path.
"""

from __future__ import annotations

import math

from chainrule.core.graph import Graph, Node, TensorType

# Entries computed, products counted as such: below this a plan costs more than it saves.
LITTLE = 50_000


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
