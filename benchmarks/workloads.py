"""The training steps that are measured, each in chainrule and in PyTorch, side by side.

W1: MLP 784-128-10, ReLU, softmax cross-entropy, SGD, batch 64.
W2: MLP 784-1024-1024-10, the same with Adam, batch 256.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One training step: forward, loss, backward, update.

    Attributes:
        name, about: what it is called and what it does.
        sizes: the layers' widths.
        adam: Adam, else SGD.
        batch: samples per step.
    """

    name: str
    about: str
    sizes: Sequence[int]
    adam: bool
    batch: int

    @property
    def flops(self) -> float:
        """Products and sums of the matrix products of a step; the first layer has no dX."""
        pairs = list(itertools.pairwise(self.sizes))
        each = [2.0 * self.batch * a * b for a, b in pairs]
        return 3 * sum(each) - each[0]

    def data(self) -> tuple[Array, Array]:
        """A batch of images and labels."""
        rng = np.random.default_rng(0)
        images = rng.random((self.batch, self.sizes[0])).astype(np.float32)
        return images, rng.integers(0, self.sizes[-1], self.batch)

    def weights(self) -> list[Array]:
        """The same start for every candidate: weights and zero biases, layer by layer."""
        rng = np.random.default_rng(1)
        made: list[Array] = []
        for inputs, outputs in itertools.pairwise(self.sizes):
            scale = np.sqrt(2 / inputs)
            made.append((rng.standard_normal((outputs, inputs)) * scale).astype(np.float32))
            made.append(np.zeros(outputs, np.float32))
        return made


WORKLOADS = {
    each.name: each
    for each in (
        Workload("W1", "MLP 784-128-10, SGD", (784, 128, 10), adam=False, batch=64),
        Workload("W2", "MLP 784-1024-1024-10, Adam", (784, 1024, 1024, 10), adam=True, batch=256),
    )
}


def chainrule_step(workload: Workload) -> Step:
    """The step in chainrule, compiled, on the executor that is set."""
    import chainrule as cr
    from chainrule import nn, optim

    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(workload.sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    for parameter, array in zip(model.parameters(), workload.weights(), strict=True):
        parameter.copy_(array)
    parameters = model.parameters()
    optimizer = optim.Adam(parameters, lr=1e-3) if workload.adam else optim.SGD(parameters, lr=0.1)

    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    images, labels = workload.data()
    return lambda: compiled(images, labels).item()


def torch_step(workload: Workload, fused: bool) -> Step:
    """The step in PyTorch, eager; ``fused`` takes the fused optimizer."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(workload.sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), workload.weights(), strict=True):
            parameter.copy_(torch.from_numpy(array))
    if workload.adam:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
    images, labels = map(torch.from_numpy, workload.data())

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
