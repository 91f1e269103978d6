"""Plans of uncompiled programs: looked up by the structure of the graph (decision 3).

A program without ``cr.compile`` makes its graph anew at every step. Graphs of one structure share a
plan, whatever their nodes, data and variables. Graphs with little work run on the interpreter,
which starts at once; how much is little depends on the graph alone, so that a run that is resumed
takes the same path.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.rewrite import substitute
from chainrule.core.subgraph import exact_attrs
from chainrule.errors import IndexRangeError
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan

# Entries computed, products counted as such: below this a plan costs more than it saves.
LITTLE = 50_000
_PLANS_KEPT = 64

_plans: OrderedDict[Hashable, Plan] = OrderedDict()
_lock = threading.Lock()


class SharedPlan:
    """A graph and the plan of another graph with the same structure."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph, self.plan = graph, plan

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]:
        """Run once; see :class:`Plan`."""
        try:
            return self.plan(inputs, variables)
        except IndexRangeError:
            interpreter.prepare(self.graph)(inputs, variables)  # names this graph's line
            raise


def shared(graph: Graph) -> SharedPlan:
    """The plan for graphs like this one, made at the first of them.

    Raises:
        NoKernelError: an op has no kernel.
    """
    key = structure(graph)
    with _lock:
        plan = _plans.get(key)
        if plan is None:
            plan = _plans[key] = Plan(_without_data(graph))
            if len(_plans) > _PLANS_KEPT:
                _plans.popitem(last=False)
        _plans.move_to_end(key)
    return SharedPlan(graph, plan)


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


def structure(graph: Graph) -> Hashable:
    """Equal for graphs that compute the same from what is handed in, read and drawn."""
    number = {node: index for index, node in enumerate(graph.inputs)}
    rows: list[Hashable] = [node.type for node in graph.inputs]
    for node in graph.nodes:
        if node in number:
            continue
        children = tuple(number[child] for child in node.inputs)
        number[node] = len(number)
        attrs = {name: value for name, value in node.attrs.items() if name != "variable"}
        rows.append((node.op, children, exact_attrs(attrs), node.type))
    cells = {variable: number[node] for variable, node in graph.reads.items()}
    writes = tuple((number[node], cells.get(v), v.type) for v, node in graph.writes.items())
    return (tuple(rows), tuple(number[node] for node in graph.outputs), writes)


def _without_data(graph: Graph) -> Graph:
    """The graph with inputs that hold no arrays, so that a plan kept for later keeps none."""
    inputs = [input(node.tensor_type, "data") for node in graph.inputs]
    results = substitute(graph.results, dict(zip(graph.inputs, inputs, strict=True)))
    count = len(graph.outputs)
    writes = dict(zip(graph.writes, results[count:], strict=True))
    return Graph(inputs, results[:count], writes)
