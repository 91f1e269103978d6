"""What the tests of the core compare with: PyTorch's autograd, and central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chainrule.core.check import verify
from chainrule.core.dtype import float32, is_float, uint32
from chainrule.core.grad import gradients
from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.shape import full
from chainrule.run import interpreter
from chainrule.run import torch as torch_executor

EXECUTORS = {"interpreter": interpreter.prepare, "torch": torch_executor.prepare}


@dataclass(frozen=True, eq=False)
class Case:
    """One sample of one op.

    Attributes:
        build: nodes to a node, or a tuple of nodes.
        reference: the same from PyTorch tensors to tensors, not by way of our tables.
        inputs: the arrays it is tried on; floats are float64.
    """

    build: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Array, ...]

    def nodes(self, inputs: Sequence[Array] | None = None) -> tuple[list[Node], list[Node]]:
        """Fresh input nodes, and the results built from them."""
        xs = input_nodes(self.inputs if inputs is None else inputs)
        return xs, listed(self.build(*xs))


def listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, tuple | list) else [made]


def input_nodes(arrays: Sequence[Array]) -> list[Node]:
    return [input(TensorType(x.shape, x.dtype), f"x{i}") for i, x in enumerate(arrays)]


def run(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    arrays: Sequence[Array],
    executor: str = "interpreter",
) -> list[Array]:
    """The values of the outputs; every value on the way has the type that its node says."""
    graph = verify(Graph(inputs, outputs))
    variables = [variable.value for variable in graph.reads]
    plan = EXECUTORS[executor](graph, hook=CHECKS[executor])
    found = plan(arrays, variables)
    for array, node in zip(found, outputs, strict=True):
        assert (array.shape, array.dtype) == node.type, node
    return found


def _check_array(node: Node, result: Any) -> None:
    types = [node.type] if isinstance(node.type, TensorType) else node.type
    for array, type in zip(listed(result), types, strict=True):
        assert (array.shape, array.dtype) == type, node


def _check_tensor(node: Node, result: Any) -> None:
    types = [node.type] if isinstance(node.type, TensorType) else node.type
    for tensor, type in zip(listed(result), types, strict=True):
        name = "int64" if type.dtype == uint32 else type.dtype.name
        assert (tuple(tensor.shape), str(tensor.dtype)) == (type.shape, f"torch.{name}"), node


CHECKS = {"interpreter": _check_array, "torch": _check_tensor}

# ------------------------------------------------------------------------------ derivatives


def cotangents_of(outputs: Sequence[Node | torch.Tensor]) -> list[Array]:
    """Weights for the entries of the results, so that every entry's derivative counts."""
    rng = np.random.default_rng(7)
    return [rng.uniform(0.5, 1.5, tuple(output.shape)) for output in outputs]


def floats(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if is_float(node.dtype)]


def derived(outputs: Sequence[Node], wrt: Sequence[Node], seeds: Sequence[Node]) -> list[Node]:
    """Gradients, zeros where there is none."""
    parts = gradients(outputs, wrt, seeds)
    return [
        full(x.shape, 0, x.dtype) if part is None else part
        for x, part in zip(wrt, parts, strict=True)
    ]


def second_loss(grads: Sequence[Any], weights: Sequence[Any], total: Callable[..., Any]) -> Any:
    """One number made of all first derivatives."""
    first, *rest = [total(g * w) for g, w in zip(grads, weights, strict=True)]
    for part in rest:
        first = first + part
    return first


class Derivation:
    """A case with its first and second derivatives, as one graph."""

    def __init__(self, case: Case, arrays: Sequence[Array] | None = None) -> None:
        given = list(case.inputs if arrays is None else arrays)
        xs, outputs = case.nodes(given)
        self.outputs = floats(outputs)
        self.wrt = floats(xs)
        weights = [*cotangents_of(self.outputs), *cotangents_of(self.wrt)]
        kind = self.wrt[0].dtype if self.wrt else float32
        weights = [weight.astype(kind) for weight in weights]
        extra = input_nodes(weights)
        seeds, mixers = extra[: len(self.outputs)], extra[len(self.outputs) :]
        self.first = derived(self.outputs, self.wrt, seeds)
        self.second: list[Node] = []
        if self.wrt:
            loss = second_loss(self.first, mixers, sum)
            self.second = derived([loss], self.wrt, [full((), 1, loss.dtype)])
        self.inputs = [*xs, *extra]
        self.arrays = [*given, *weights]

    def run(self, executor: str) -> tuple[list[Array], list[Array]]:
        found = run([*self.first, *self.second], self.inputs, self.arrays, executor)
        return found[: len(self.first)], found[len(self.first) :]


def to_torch(array: Array, grad: bool = True) -> torch.Tensor:
    wide = array.astype(np.int64) if array.dtype == uint32 else np.array(array, order="C")
    return torch.from_numpy(wide).requires_grad_(grad and is_float(array.dtype))


def torch_forward(case: Case, arrays: Sequence[Array] | None = None) -> list[Array]:
    given = case.inputs if arrays is None else arrays
    made = listed(case.reference(*[to_torch(array, grad=False) for array in given]))
    return [tensor.numpy() for tensor in made]


def torch_derivatives(case: Case) -> tuple[list[Array], list[Array]]:
    """First and second derivatives by PyTorch's autograd, as :class:`Derivation` forms them."""
    xs = [to_torch(array) for array in case.inputs]
    outputs = [y for y in listed(case.reference(*xs)) if y.dtype == torch.float64]
    wrt = [x for x in xs if x.requires_grad]
    seeds, mixers = (
        [torch.from_numpy(weight) for weight in cotangents_of(group)] for group in (outputs, wrt)
    )
    first = _torch_gradients(outputs, wrt, seeds)
    if not wrt:
        return [], []
    loss = second_loss(first, mixers, torch.sum)
    second = _torch_gradients([loss], wrt, [torch.ones_like(loss)])
    return [g.numpy(force=True) for g in first], [g.numpy(force=True) for g in second]


def _torch_gradients(
    outputs: Sequence[torch.Tensor], wrt: Sequence[torch.Tensor], seeds: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    pairs = [(y, seed) for y, seed in zip(outputs, seeds, strict=True) if y.requires_grad]
    if not pairs:
        return [torch.zeros_like(x) for x in wrt]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        wrt,
        [seed for _, seed in pairs],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)


def central_differences(
    outputs: Sequence[Node], inputs: Sequence[Node], arrays: Sequence[Array], step: float = 1e-5
) -> list[Array]:
    """(L(x + h) - L(x - h)) / 2h for every entry of every float input; L weighs all outputs."""
    graph = Graph(inputs, outputs)
    plan = interpreter.prepare(graph)
    variables = [variable.value for variable in graph.reads]
    weights = cotangents_of(outputs)

    def loss(changed: Sequence[Array]) -> float:
        found = plan(changed, variables)
        return float(np.sum([np.sum(y * w) for y, w in zip(found, weights, strict=True)]))

    grads = []
    for position, array in enumerate(arrays):
        if not is_float(array.dtype):
            continue
        grad = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            above, below = array.copy(), array.copy()
            above[index] += step
            below[index] -= step
            pair = [
                [*arrays[:position], moved, *arrays[position + 1 :]] for moved in (above, below)
            ]
            grad[index] = (loss(pair[0]) - loss(pair[1])) / (2 * step)
        grads.append(grad)
    return grads


def assert_equal(found: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """Shapes and values; NaN equals NaN, an infinity itself."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(
            a.astype(np.float64) if a.dtype.kind == "f" else a, b, rtol=rtol, atol=atol
        )
