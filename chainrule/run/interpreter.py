"""The executor that reads like the definition: one node after another, in NumPy.

It runs everything in any element type, and a hook sees every value: the explainer, the tests and
the doctor stand on it. Fast executors are held against it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from chainrule.core.graph import Array, Graph, Node, ResultType, TensorType, Variable
from chainrule.core.op import CONSTANT, OPS, Op, input
from chainrule.core.ops.shape import BROADCAST
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.core.subgraph import Step, Subgraph
from chainrule.errors import ChainruleError

R = TypeVar("R")
# Called with each node and its result, in the order of the run.
Hook = Callable[[Node, Any], None]
# The result of one node from the results of its inputs.
Evaluate = Callable[[Node, Sequence[Any]], Any]


# NumPy gives scalars where an array has no axes.
_RESULTS = (np.ndarray, tuple)
# Where NumPy does not warn of infinities and the like.
_quiet = contextvars.copy_context()
_quiet.run(np.seterr, all="ignore")


def quietly(function: Callable[..., R], *args: Any) -> R:
    """The result of a call in which NumPy does not warn: cheaper than ``np.errstate``."""
    return _quiet.copy().run(function, *args)


class Plan:
    """A graph made ready: for each node, where its inputs stand and which values end with it."""

    def __init__(
        self,
        graph: Graph,
        hook: Hook | None = None,
        using: Evaluate | None = None,
        reads: Iterable[Variable] | None = None,
    ) -> None:
        """``reads`` are the variables handed in, if not those that the graph reads."""
        self.graph = graph
        self.hook = hook
        slot = {node: index for index, node in enumerate(graph.nodes)}
        self._inputs = [slot[node] for node in graph.inputs if node in slot]
        self._used = [index for index, node in enumerate(graph.inputs) if node in slot]
        handed = enumerate(graph.reads if reads is None else reads)
        self._reads = [(slot[graph.reads[v]], index) for index, v in handed if v in graph.reads]
        self._results = [slot[node] for node in graph.results]
        given = {*self._inputs, *(place for place, _ in self._reads)}
        last = {
            slot[child]: step
            for step, node in enumerate(graph.nodes)
            if step not in given
            for child in node.inputs
        }
        kept = {*self._results, *given}
        ending: dict[int, list[int]] = {}
        for index, step in last.items():
            if index not in kept:
                ending.setdefault(step, []).append(index)
        self._is_numpy = using is None
        call = evaluation if using is None else _through(using)
        fixed = _fixed(graph) if using is None and hook is None else {}
        self._start = [fixed.get(node) for node in graph.nodes]
        self._steps = [
            (step, node, call(node), [slot[child] for child in node.inputs], ending.get(step, ()))
            for step, node in enumerate(graph.nodes)
            if step not in given and node not in fixed
        ]

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]:
        """Run once.

        Args:
            inputs: one array per graph input.
            variables: one array per variable read, in the order of ``graph.reads``.

        Returns:
            The outputs, then the values to write, in the order of ``graph.writes``.
        """
        values: list[Any] = self._start.copy()
        for index, position in zip(self._inputs, self._used, strict=True):
            values[index] = inputs[position]
        for index, position in self._reads:
            values[index] = variables[position]
        if self.hook:
            for index in (*self._inputs, *(index for index, _ in self._reads)):
                self.hook(self.graph.nodes[index], values[index])
        quietly(self._fill, values)
        return [values[index] for index in self._results]

    def _fill(self, values: list[Any]) -> None:
        """Put in the results of the nodes, and take out those that were used for the last time."""
        is_numpy, node = self._is_numpy, None
        try:
            for step, node, call, operands, ending in self._steps:
                result = call(*[values[index] for index in operands])
                if is_numpy and not isinstance(result, _RESULTS):
                    result = np.asarray(result)
                values[step] = result
                if self.hook:
                    self.hook(node, result)
                for index in ending:
                    values[index] = None
        except ChainruleError as error:
            assert node is not None
            raise error.at(".".join(node.scope), node.source) from None


def prepare(graph: Graph, hook: Hook | None = None) -> Plan:
    """The plan of a graph; ``hook(node, result)`` is called for every node of every run."""
    return Plan(graph, hook)


def prepare_opened(graph: Graph) -> Plan:
    """The same results with less to do: what has no evaluation of its own is opened beforehand."""
    evaluated = [name for name, op in OPS.items() if op.evaluate is not None]
    return Plan(simplify(expand(graph, evaluated)), reads=graph.reads)


def _fixed(graph: Graph) -> dict[Node, Array]:
    """The values of constants, and of constants repeated: computed once, and not in every run."""
    found: dict[Node, Array] = {}
    given = set(graph.inputs)
    for node in graph.nodes:
        if node in given:
            continue
        if node.op is CONSTANT or (node.op is BROADCAST and node.inputs[0] in found):
            found[node] = evaluation(node)(*[found[child] for child in node.inputs])
    return found


def evaluate(node: Node, arrays: Sequence[Array]) -> Any:
    """The result of one node from the results of its inputs."""
    try:
        result = evaluation(node)(*arrays)
    except ChainruleError as error:
        raise error.at(".".join(node.scope), node.source) from None
    return result if isinstance(result, _RESULTS) else np.asarray(result)


def evaluation(node: Node) -> Callable[..., Any]:
    """The function of the results of a node's inputs that gives its own: found once per plan."""
    op, attrs = node.op, node.attrs
    if op.evaluate is not None:
        if not attrs:
            return op.evaluate
        return partial(op.evaluate, **(with_steps(attrs) if "body" in attrs else attrs))
    if op.name == "constant":
        value = np.asarray(attrs["value"], node.dtype)
        return lambda: value
    plan = _body_plan(op, tuple(child.type for child in node.inputs), tuple(attrs.items()))
    if isinstance(node.type, TensorType):
        return lambda *arrays: plan(arrays, ())[0]
    return lambda *arrays: tuple(plan(arrays, ()))


def _through(using: Evaluate) -> Callable[[Node], Callable[..., Any]]:
    """As :func:`evaluation`, by way of another function."""
    return lambda node: lambda *arrays: using(node, arrays)


@lru_cache(maxsize=1024)
def _body_plan(
    op: Op, types: tuple[ResultType, ...], attrs: tuple[tuple[str, Hashable], ...]
) -> Plan:
    """The plan of a named function's body; it serves every node with these types and attributes."""
    assert op.body is not None, f"{op.name} has neither an evaluation nor a body"
    inputs = [
        input(type, f"x{index}") for index, type in enumerate(types) if isinstance(type, TensorType)
    ]
    made = op.body(*inputs, **dict(attrs))
    return Plan(Graph(inputs, made if isinstance(made, tuple) else (made,)))


def with_steps(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as evaluations get them: a subgraph is a function of arrays."""
    return {
        name: _step(value) if isinstance(value, Subgraph) else value
        for name, value in attrs.items()
    }


@lru_cache(maxsize=256)
def _step(inner: Subgraph) -> Step:
    plan = Plan(inner)
    return lambda arrays: plan(arrays, ())
