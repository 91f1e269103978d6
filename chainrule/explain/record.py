"""Recording a run: the graph of one training step, and every number that it computed.

The step is traced like a compiled one (forward, loss, back-propagation, update) but run on the
interpreter, from a snapshot of the variables: the model itself is not touched. Gradients are held
against central differences, worked out in float64 on a twin of the forward graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.dtype import float32, float64, is_float
from chainrule.core.grad import gradients
from chainrule.core.graph import (
    Array,
    Graph,
    Node,
    Shape,
    TensorType,
    Variable,
    derived_from,
    walk,
)
from chainrule.core.op import input, pick
from chainrule.core.ops.functions import softmax
from chainrule.core.ops.shape import full
from chainrule.core.rewrite import body_of
from chainrule.errors import NotScalarError
from chainrule.explain.unroll import unrolled
from chainrule.nn import Module
from chainrule.optim import SGD, Optimizer
from chainrule.run import interpreter
from chainrule.tensor.state import Gradients, Trace, current, eager, tracing
from chainrule.tensor.tensor import Tensor, tensor, wrap
from chainrule.tensor.variable import VariableTensor

# Ops that move or retype entries without computing: they get no step of their own.
VIEWS = frozenset(
    {"broadcast_to", "cast", "flip", "pad", "permute", "reshape", "slice", "stop_gradient"}
)


@dataclass
class Recording:
    """A traced training step with the values of one run of it.

    Attributes:
        inputs: the input nodes x.
        target: the node of y, or None.
        prediction: the model's output.
        loss: the loss, or None.
        probability: softmax of the scores, where the loss is cross-entropy.
        forward: every node of the forward part, each after its inputs.
        cotangents: dL/d(node) for the nodes of the forward part a gradient flows through.
        locals: d(consumer)/d(node) where the only consumer works entry by entry.
        writes: the new value of every variable.
        values: the array of every node of the last run.
        arrays: the arrays of inputs and variables it started from.
        picks: for a function with several results, the node of each.
        times: the time step, from 1, of nodes inside a loop.
    """

    inputs: list[Node]
    target: Node | None
    prediction: Node
    loss: Node | None
    probability: Node | None
    forward: list[Node]
    cotangents: dict[Node, Node]
    locals: dict[Node, Node]
    writes: dict[Variable, Node]
    graph: Graph
    optimizer: Optimizer | None
    arrays: dict[Node, Array]
    picks: dict[tuple[Node, int], Node]
    times: dict[Node, int]
    values: dict[Node, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Run the step once from ``arrays``."""
        values = self.values = {}
        plan = interpreter.prepare(self.graph, hook=values.__setitem__)
        plan(
            [self.arrays[node] for node in self.graph.inputs],
            [self.arrays[node] for node in self.graph.reads.values()],
        )

    def advance(self) -> None:
        """Take the updated variables as the next start, and run again."""
        for variable, node in self.writes.items():
            if variable in self.graph.reads:
                self.arrays[self.graph.reads[variable]] = np.asarray(self.values[node])
        self.run()

    def value(self, node: Node) -> Array:
        """The array of a node; what was not part of the run is computed from what was."""
        if node not in self.values:
            with np.errstate(all="ignore"):
                for step in walk([node], stop=self.values.__contains__):
                    if step not in self.values:
                        operands = [self.values[child] for child in step.inputs]
                        self.values[step] = interpreter.evaluate(step, operands)
        return np.asarray(self.values[node])

    @property
    def output(self) -> Node:
        """The model's prediction; for cross-entropy, its probabilities."""
        return self.probability if self.probability is not None else self.prediction

    @property
    def parameters(self) -> dict[Variable, Node]:
        """The trainable variables of the forward part, in the order they are read."""
        reads = [node for node in self.forward if node.op.name == "read" and node.needs_grad]
        return {node.attrs["variable"]: node for node in reads}


def record(
    model: Callable[..., Tensor],
    x: Any,
    y: Any = None,
    loss: Callable[..., Tensor] | None = None,
    optimizer: Optimizer | float | None = None,
) -> Recording:
    """Trace one training step of a model; call ``run`` on the result.

    Args:
        model: a module, or any function of tensors.
        x: its input, or a tuple of them.
        y: the target; None for a forward pass alone.
        loss: ``loss(prediction, y)``.
        optimizer: an optimizer over the model's parameters, or gradient descent's learning rate.
    """
    given = [_as_input(item, model) for item in (x if isinstance(x, tuple) else (x,))]
    target = _as_input(y, model) if y is not None and loss is not None else None
    with tracing() as trace:
        trace.grads = Gradients({})
        holes = [input(item.node.tensor_type, "x") for item in given]
        hole_y = input(target.node.tensor_type, "y") if target is not None else None
        prediction = model(*map(wrap, holes)).node
        loss_node = None
        if loss is not None and hole_y is not None:
            loss_node = loss(wrap(prediction), wrap(hole_y)).node
            if loss_node.size != 1:
                raise NotScalarError(
                    op="explain", shape=loss_node.shape, mend='use reduction="mean" or "sum"'
                )
        ends, times = unrolled([prediction, *([loss_node] if loss_node is not None else [])])
        prediction, end = ends[0], ends[-1]
        loss_node = end if loss_node is not None else None
        reached = set(walk([end], stop=_outside))
        in_time = [node for node in times if node in reached]  # step after step
        forward, picks = _with_results(walk([*in_time, end], stop=_outside), times)
        probability = _probability(loss_node)
        cotangents = _cotangents(loss_node, forward)
        local = _locals(forward, cotangents)
        chosen, writes = _update(optimizer, cotangents, trace)
    leaves = [node for node in (prediction, *forward, *writes.values()) if node is not None]
    outside = [n for n in walk(leaves, stop=_outside) if n.trace == 0 and n.op.name != "constant"]
    eager.evaluate(outside)
    extra = [*picks.values(), *([probability] if probability is not None else [])]
    known = [*holes, *([hole_y] if hole_y is not None else []), *outside]
    graph = Graph(known, [end, prediction, *extra, *cotangents.values(), *local.values()], writes)
    arrays = {node: np.asarray(node.value) for node in outside}
    arrays |= {hole: item._value("explain") for hole, item in zip(holes, given, strict=True)}
    if hole_y is not None and target is not None:
        arrays[hole_y] = target._value("explain")
    arrays |= {node: variable.value for variable, node in graph.reads.items()}
    return Recording(
        holes, hole_y, prediction, loss_node, probability, forward, cotangents, local,
        writes, graph, chosen, arrays, picks, times,
    )  # fmt: skip


def _as_input(value: Any, model: object) -> Tensor:
    """Data as a tensor; lists and arrays take the float type of the model's parameters."""
    given = isinstance(value, Tensor)
    made: Tensor = value if given else tensor(value)
    if isinstance(model, Module) and not given and is_float(made.dtype):
        made = made.to(next((p.dtype for p in model.parameters()), made.dtype))
    current().evaluate([made.node])
    return made


def _outside(node: Node) -> bool:
    return node.trace == 0 and node.op.name not in ("read", "constant")


def _with_results(
    forward: list[Node], times: dict[Node, int]
) -> tuple[list[Node], dict[tuple[Node, int], Node]]:
    """The forward nodes with every result of every function, used or not, as a node of its own."""
    picks = {(n.inputs[0], n.attrs["index"]): n for n in forward if n.op.name == "pick"}
    complete: list[Node] = []
    for node in forward:
        if node.op.name == "pick" and picks[node.inputs[0], node.attrs["index"]] in complete:
            continue
        complete.append(node)
        if not isinstance(node.type, TensorType) and node.op.body is not None:
            body = body_of(node)
            order = {part: step for step, part in enumerate(walk(body))}
            for index in sorted(range(len(body)), key=lambda i: order[body[i]]):
                with derived_from(node):
                    made = picks.setdefault((node, index), pick(node, index))
                if node in times:
                    times[made] = times[node]
                complete.append(made)
    return complete, picks


def _probability(loss: Node | None) -> Node | None:
    """softmax(z) of a cross-entropy: the prediction as probabilities."""
    if loss is None or loss.op.name != "cross_entropy":
        return None
    z = loss.inputs[0]
    return softmax(z, 1 if z.ndim > 1 else 0)


def _cotangents(loss: Node | None, forward: Sequence[Node]) -> dict[Node, Node]:
    if loss is None or not loss.needs_grad:
        return {}
    wanted = [n for n in forward if n.needs_grad and isinstance(n.type, TensorType)]
    found = gradients([loss], wanted)
    return {node: part for node, part in zip(wanted, found, strict=True) if part is not None}


def _locals(forward: Sequence[Node], cotangents: Mapping[Node, Node]) -> dict[Node, Node]:
    """da/dz where a is the only use of z and works entry by entry."""
    consumers: dict[Node, list[Node]] = {}
    for node in forward:
        for child in node.inputs:
            consumers.setdefault(child, []).append(node)
    found = {}
    for node in cotangents:
        users = consumers.get(node, [])
        if len(users) != 1 or not users[0].op.elementwise or users[0].op.name in VIEWS:
            continue
        user = users[0]
        (part,) = gradients([user], [node], [full(user.shape, 1, user.dtype)])
        if part is not None and not _is_plain(part):
            found[node] = part
    return found


def _is_plain(node: Node) -> bool:
    """A derivative that is a number, 1 or -1 say, needs no line of its own."""
    while node.op.name in ("broadcast_to", "neg"):
        node = node.inputs[0]
    return node.op.name == "constant"


def _update(
    optimizer: Optimizer | float | None, cotangents: Mapping[Node, Node], trace: Trace
) -> tuple[Optimizer | None, dict[Variable, Node]]:
    """The optimizer's writes, from the gradients of the parameters."""
    reads = {node.attrs["variable"]: node for node in cotangents if node.op.name == "read"}
    if not reads or optimizer is None:
        return None, {}
    if not isinstance(optimizer, Optimizer):
        optimizer = SGD([VariableTensor(variable) for variable in reads], lr=float(optimizer))
    for variable, node in reads.items():
        trace.grads[variable] = cotangents[node]
    optimizer.step()
    return optimizer, trace.writes()


# ------------------------------------------------------------------------ central differences


class Checker:
    """dL/d(any entry of any node) by moving it a little, in float64.

    The forward part is run once in float64; for a difference only what depends on the moved node is
    run again.
    """

    def __init__(self, recording: Recording) -> None:
        assert recording.loss is not None
        self._forward = recording.forward
        self._twin = _widened(recording)
        self._loss = self._twin[recording.loss]
        leaves = [leaf for leaf in self._twin if leaf in recording.arrays]
        graph = Graph([self._twin[leaf] for leaf in leaves], [self._loss])
        self._values: dict[Node, Any] = {}
        plan = interpreter.prepare(graph, hook=self._values.__setitem__)
        plan([_wide(recording.arrays[leaf]) for leaf in leaves], [])
        self._plans: dict[Node, tuple[interpreter.Plan, list[Any]]] = {}

    def __call__(self, node: Node, index: Shape) -> float:
        """(L(v + h) - L(v - h)) / 2h for the entry v of ``node`` at ``index``."""
        if node not in self._plans:
            self._plans[node] = self._plan(node)
        plan, rest = self._plans[node]
        centre = np.asarray(self._values[self._twin[node]])
        h = 1e-6 * max(1.0, abs(float(centre[index])))
        sides = []
        for sign in (1, -1):
            moved = centre.copy()
            moved[index] += sign * h
            sides.append(float(plan([moved, *rest], [])[0]))
        return (sides[0] - sides[1]) / (2 * h)

    def _plan(self, node: Node) -> tuple[interpreter.Plan, list[Any]]:
        """The part after a node, and the values that it reads besides that node's."""
        after = {node}
        beside: dict[Node, None] = {}
        for step in self._forward:
            if after.isdisjoint(step.inputs):
                continue
            after.add(step)
            beside.update(dict.fromkeys(child for child in step.inputs if child not in after))
        rest = [self._twin[child] for child in beside]
        graph = Graph([self._twin[node], *rest], [self._loss])
        return interpreter.prepare(graph), [self._values[twin] for twin in rest]


def _wide(array: Array) -> Array:
    return array.astype(float64) if array.dtype == float32 else array


def _widened(recording: Recording) -> dict[Node, Node]:
    """For each forward node its twin in float64."""
    twin: dict[Node, Node] = {}
    for node in recording.forward:
        if node in recording.arrays:
            kind = node.tensor_type
            wide = float64 if is_float(kind.dtype) else kind.dtype
            twin[node] = input(TensorType(kind.shape, wide), "twin")
            continue
        attrs = {
            key: float64 if isinstance(value, np.dtype) and value == float32 else value
            for key, value in node.attrs.items()
        }
        inputs = tuple(twin[child] for child in node.inputs)
        inferred = node.op.infer(*[child.type for child in inputs], **attrs)
        twin[node] = Node(node.op, inputs, attrs, inferred)
    return twin
