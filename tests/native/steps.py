"""The training steps that the tests run: W1 and W2 of the benchmarks, and inputs for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Array, Variable


@dataclass
class Training:
    """A compiled step and what it trains."""

    step: Any
    model: nn.Module
    optimizer: optim.Optimizer

    def run(self, batches: list[tuple[Array, Array]]) -> list[float]:
        return [self.step(images, labels).item() for images, labels in batches]

    def state(self) -> list[Array]:
        """Parameters and the optimizer's cells."""
        cells = [*self.model.parameters(), *self.optimizer.variables().values()]
        return [cell.numpy() for cell in cells]

    def plan(self) -> Any:
        """The plan of the one shape that was run."""
        (entry,) = self.step._entries.values()
        return entry.plan

    def variables(self) -> list[Variable]:
        (entry,) = self.step._entries.values()
        return list(entry.graph.reads)


def _training(sizes: list[int], optimizer: Callable[..., optim.Optimizer]) -> Training:
    cr.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    updates = optimizer(model.parameters())

    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        updates.step()
        return loss

    return Training(cr.compile(step), model, updates)


def w1() -> Training:
    return _training([784, 128, 10], lambda p: optim.SGD(p, lr=0.1))


def w2() -> Training:
    return _training([784, 1024, 1024, 10], lambda p: optim.Adam(p, lr=1e-3))


WORKLOADS = {"w1": (w1, 64), "w2": (w2, 256)}


def batches(size: int, count: int, seed: int = 0) -> list[tuple[Array, Array]]:
    """Images that tell something about their labels, so that the loss falls."""
    rng = np.random.default_rng(seed)
    centres = rng.random((10, 784))
    made = []
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        images = 0.5 * centres[labels] + 0.5 * rng.random((size, 784))
        made.append((images.astype(np.float32), labels))
    return made
