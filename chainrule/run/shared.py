"""Plans of uncompiled programs: looked up by the structure of what is computed (decision 3).

A program without ``cr.compile`` makes its nodes anew at every step. Computations of one structure
share a plan, whatever their nodes, data and variables. The structure is read off the nodes as they
are, before anything is opened or simplified.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from chainrule.core.call import closed, inlined
from chainrule.core.graph import Array, Graph, Node, Variable
from chainrule.core.loops import tidy
from chainrule.core.op import READ, WRITTEN, input
from chainrule.core.simplify import simplify
from chainrule.core.subgraph import Subgraph, copied, kind_of
from chainrule.errors import ChainruleError
from chainrule.run import executor, interpreter, prepare_once

_PLANS_KEPT = 64

_plans: OrderedDict[Hashable, Shared] = OrderedDict()
_lock = threading.Lock()


class Update(NamedTuple):
    """New values of variables, as a function of values and of variables.

    Attributes:
        body: takes the values, what is read and the variables; gives the variables' new values.
        values: nodes.
        reads: variables that stay as they are.
        variables: each stands once, and in no other update or write of its time.
    """

    body: Subgraph
    values: tuple[Node, ...]
    reads: tuple[Variable, ...]
    variables: tuple[Variable, ...]

    def nodes(self) -> dict[Variable, Node]:
        """The new values, as nodes."""
        cells = (*self.reads, *self.variables)
        given = (*self.values, *(variable.read() for variable in cells))
        made = copied(self.body.outputs, dict(zip(self.body.inputs, given, strict=True)))
        return dict(zip(self.variables, made, strict=True))


class Work(NamedTuple):
    """What is to be computed.

    Attributes:
        nodes: all nodes, each after its inputs; those with values are leaves.
        outputs: those whose values are wanted.
        writes, updates: what variables get.
    """

    nodes: Sequence[Node]
    outputs: Sequence[Node]
    writes: Mapping[Variable, Node]
    updates: Sequence[Update]

    def graph(self) -> tuple[Graph, list[Array]]:
        """The same as a graph, and its inputs' arrays."""
        leaves = [node for node in self.nodes if node.value is not None]
        writes = dict(self.writes)
        for update in self.updates:
            writes |= update.nodes()
        arrays = [node.value for node in leaves if node.value is not None]
        return Graph(leaves, self.outputs, writes), arrays


class Shared:
    """The plan of a structure.

    Attributes:
        plan: it, made from the first such graph.
        reads, writes: its variables, by their numbers in the structure.
    """

    def __init__(self, work: Work, variables: Sequence[Variable]) -> None:
        graph, _ = work.graph()
        graph = tidy(simplify(inlined(_copied(graph))))
        self.plan: Any = prepare_once(graph)
        number = {variable: index for index, variable in enumerate(variables)}
        self.reads = [number[variable] for variable in graph.reads]
        self.writes = [number[variable] for variable in graph.writes]
        self._outputs = len(graph.outputs)
        self._in_place = getattr(self.plan, "step", None)

    def run(self, arrays: list[Array], variables: Sequence[Variable]) -> list[Array]:
        """The outputs; the writes are committed, or after an error none."""
        reads = [variables[index] for index in self.reads]
        writes = [variables[index] for index in self.writes]
        if self._in_place is not None:
            outputs: list[Array] = self._in_place(arrays, reads, writes)
            return outputs
        results = self.plan(arrays, [variable.value for variable in reads])
        for variable, array in zip(writes, results[self._outputs :], strict=True):
            variable.commit(array)
        found: list[Array] = results[: self._outputs]
        return found


def run(work: Work) -> list[Array]:
    """The outputs' arrays; the variables have their new values, or after an error the old ones."""
    key, arrays, variables = structure(work)
    with _lock:
        shared = _plans.get(key)
        if shared is None:
            shared = _plans[key] = Shared(work, variables)
            if len(_plans) > _PLANS_KEPT:
                _plans.popitem(last=False)
        _plans.move_to_end(key)
    try:
        return shared.run(arrays, variables)
    except ChainruleError as error:
        failure = error
    graph, arrays = work.graph()  # this program's own nodes know its lines
    interpreter.prepare(inlined(graph))(arrays, [variable.value for variable in graph.reads])
    raise failure


def structure(work: Work) -> tuple[Hashable, list[Array], list[Variable]]:
    """Equal for computations that differ in data alone; the leaves' arrays and the variables."""
    number: dict[Node, int] = {}
    cells: dict[Variable, int] = {}
    rows: list[Hashable] = []
    arrays: list[Array] = []
    for index, node in enumerate(work.nodes):
        number[node] = index
        op = node.op
        if node.value is not None:
            arrays.append(node.value)
            rows.append(node.type)
        elif op is READ:
            variable = node.attrs["variable"]
            rows += (READ, cells.setdefault(variable, len(cells)), node.type)
        elif op is WRITTEN:
            rows += (WRITTEN, number[node.inputs[0]])
        else:
            rows.append(node.kind or kind_of(node))
            if op.arity is None:
                rows.append(len(node.inputs))
            for child in node.inputs:
                rows.append(number[child])
    writes = [
        (cells.setdefault(variable, len(cells)), number[node], node.type)
        for variable, node in work.writes.items()
    ]
    updates = [
        (
            update.body,
            tuple([number[node] for node in update.values]),
            tuple([cells.setdefault(variable, len(cells)) for variable in update.reads]),
            tuple([cells.setdefault(variable, len(cells)) for variable in update.variables]),
        )
        for update in work.updates
    ]
    outputs = tuple([number[node] for node in work.outputs])
    key = (executor(), tuple(rows), outputs, tuple(writes), tuple(updates))
    return key, arrays, list(cells)


def _copied(graph: Graph) -> Graph:
    """The graph in nodes of its own, without data.

    A plan is kept for longer than a program's nodes, and those change when they get a value.
    """
    inputs = {node: input(node.tensor_type, "data") for node in graph.inputs}
    results = closed(graph.results, inputs).outputs
    count = len(graph.outputs)
    return Graph(
        list(inputs.values()),
        results[:count],
        dict(zip(graph.writes, results[count:], strict=True)),
    )
