"""Small graphs that make kernels of every kind: cases of all ops, and whole steps of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from oracle import Derivation
from test_ops import EVERY, has_floats, narrow

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.dtype import is_float
from chainrule.core.graph import Array, Graph, Node

# Of these, all cases; of other ops, the one with the most entries.
_WHOLE = (
    "convolution", "matmul", "max_pool", "adaptive_max_pool", "scan", "sort",
    "scaled_dot_product_attention",
)  # fmt: skip


class Sample(NamedTuple):
    """A graph, and the arrays to run it on."""

    name: str
    graph: Graph
    arrays: Sequence[Array]

    @property
    def variables(self) -> list[Array]:
        return [variable.value for variable in self.graph.reads]

    @property
    def results(self) -> list[Node]:
        """Outputs, then what is written."""
        return [*self.graph.outputs, *self.graph.writes.values()]


def cases() -> Iterator[Sample]:
    """Cases of all ops with their first derivatives."""
    for name, every in EVERY.items():
        chosen = every if name in _WHOLE else [max(every, key=_size)]
        for number, case in enumerate(chosen):
            arrays = [narrow(array) for array in case.inputs]
            nodes, outputs = case.nodes(arrays)
            if not all(is_float(node.dtype) for node in outputs):
                yield Sample(f"{name}-{number}", Graph(nodes, outputs), arrays)
            if has_floats(case):
                made = Derivation(case, arrays)
                graph = Graph(made.inputs, [*made.outputs, *made.first])
                yield Sample(f"{name}-{number}'", graph, made.arrays)


def _size(case: Any) -> int:
    return min((array.size for array in case.inputs), default=0)


def _training(model: nn.Module, optimizer: Any) -> Callable[..., Any]:
    def step(x: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def networks() -> Iterator[Sample]:
    """Training steps, and inference on one sample."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    cr.manual_seed(0)
    cr.set_executor("interpreter")
    mlp = nn.Sequential(nn.Linear(40, 512), nn.Tanh(), nn.Linear(512, 300), nn.Linear(300, 10))
    digits = nn.Sequential(nn.Linear(400, 64), nn.ReLU(), nn.Linear(64, 10))
    images = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.1),
        nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16),
        nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    steps: list[tuple[str, Callable[..., Any], list[Array]]] = [
        ("MLP", _training(mlp, optim.Adam(mlp.parameters(), lr=1e-3)),
         [draw(9, 40), rng.integers(0, 10, 9)]),
        ("digits", _training(digits, optim.SGD(digits.parameters(), lr=0.1)),
         [draw(15, 400), rng.integers(0, 10, 15)]),
        ("images", _training(images, optim.SGD(images.parameters(), lr=0.1, momentum=0.9)),
         [draw(16, 3, 32, 32), rng.integers(0, 10, 16)]),
        ("inference", lambda x: mlp(x).argmax(-1), [draw(1, 40)]),
        ("scores", lambda x: mlp(x), [draw(1, 40)]),
    ]  # fmt: skip
    for name, step, arrays in steps:
        if len(arrays) == 1:
            mlp.eval()
        entry, given = cr.compile(step).prepared(arrays, {})
        yield Sample(name, entry.graph, given)
