"""The training steps that are measured, each in chainrule and in PyTorch, side by side.

W1: MLP 784-128-10, ReLU, softmax cross-entropy, SGD, batch 64.
W2: MLP 784-1024-1024-10, the same with Adam, batch 256.
W3: CNN on 1x28x28: conv3x3x32, conv3x3x64, maxpool, dropout, 128, dropout, 10, Adam, batch 64.
W4: ResNet-20 on 3x32x32, batch norm, SGD with momentum, batch 64.
W5: letter model, vocabulary 96: embedding 64, LSTM 256, length 64, Adam, batch 32.
W6: GPT, vocabulary 96, width 128, 4 heads, 4 layers, length 64, AdamW, batch 32.
W7: detector on 3x128x128, mean squared error, Adam, batch 16.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from images import detector, digits, resnet20
from sequences import LENGTH, VOCABULARY, gpt, letters

Array = np.ndarray[Any, Any]
Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One training step: forward, loss, backward, update.

    Attributes:
        name, about: what it is called and what it does.
        model: the network, from the ``nn`` of either library.
        data: a batch: inputs, and the class at every position.
        flops: products and sums of the matrix products of a step.
        optimizer, options: its class and its arguments.
        loss: name of the loss, a function of scores and classes.
        is_random: it draws random numbers, so that losses differ between libraries.
    """

    name: str
    about: str
    model: Callable[[Any], Any]
    data: Callable[[], tuple[Array, Array]]
    flops: float
    optimizer: str
    options: Mapping[str, float]
    loss: str = "cross_entropy"
    is_random: bool = False

    def scores(self, outputs: Any) -> Any:
        """What the loss takes: for classes a matrix with a row per position."""
        is_rows = self.loss == "cross_entropy"
        return outputs.reshape(-1, outputs.shape[-1]) if is_rows else outputs


def chainrule_step(workload: Workload) -> Step:
    """The step in chainrule, compiled, on the executor that is set."""
    import chainrule as cr
    from chainrule import nn, optim

    cr.manual_seed(0)
    model = workload.model(nn)
    optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.options)

    def step(inputs: cr.Tensor, classes: cr.Tensor) -> cr.Tensor:
        loss = getattr(nn.functional, workload.loss)(workload.scores(model(inputs)), classes)
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    inputs, classes = workload.data()
    return lambda: compiled(inputs, classes).item()


def start_of(workload: Workload) -> dict[str, Array]:
    """The weights that every library begins with, by name and in PyTorch's layout."""
    import chainrule as cr
    from chainrule import nn

    cr.manual_seed(0)
    return {name: x.numpy() for name, x in workload.model(nn).state_dict().items()}


def torch_model(workload: Workload, start: Mapping[str, Array] | None = None) -> Any:
    """The network in PyTorch, from these weights."""
    import torch

    start = start_of(workload) if start is None else start
    model = workload.model(torch.nn)
    model.load_state_dict({name: torch.tensor(array) for name, array in start.items()})
    return model


def torch_step(
    workload: Workload,
    fused: bool,
    channels_last: bool = False,
    compiled: bool = False,
    start: Mapping[str, Array] | None = None,
) -> Step:
    """The step in PyTorch, eager, from the same weights.

    Args:
        fused: take the fused optimizer.
        channels_last: images and weights lie with their channels innermost.
        compiled: the network goes through ``torch.compile``.
        start: the weights, where chainrule is not to be loaded for them.
    """
    import torch

    model = torch_model(workload, start)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    make = getattr(torch.optim, workload.optimizer)
    optimizer = make(model.parameters(), fused=fused, **workload.options)
    inputs, classes = map(torch.from_numpy, workload.data())
    if channels_last:
        inputs = inputs.to(memory_format=torch.channels_last)
    network = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad()
        outputs = workload.scores(network(inputs))
        loss = getattr(torch.nn.functional, workload.loss)(outputs, classes)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


# ------------------------------------------------------------------------------ the table


def _mlp(
    name: str, sizes: Sequence[int], batch: int, optimizer: str, options: Mapping[str, float]
) -> Workload:
    """Linear layers with ReLU between."""

    def model(nn: Any) -> Any:
        layers: list[Any] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def data() -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        images = rng.random((batch, sizes[0])).astype(np.float32)
        return images, rng.integers(0, sizes[-1], batch)

    each = [2.0 * batch * a * b for a, b in itertools.pairwise(sizes)]
    flops = 3 * sum(each) - each[0]  # the first layer has no dX
    about = f"MLP {'-'.join(map(str, sizes))}, {optimizer}"
    return Workload(name, about, model, data, flops, optimizer, options)


def _text(batch: int) -> Callable[[], tuple[Array, Array]]:
    def data() -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        text = rng.integers(0, VOCABULARY, (batch, LENGTH + 1))
        return text[:, :-1].copy(), text[:, 1:].reshape(-1).copy()

    return data


def _images(batch: int, shape: Sequence[int]) -> Callable[[], tuple[Array, Array]]:
    def data() -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((batch, *shape)).astype(np.float32)
        return images, rng.integers(0, 10, batch)

    return data


def _scenes() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 3, 128, 128)).astype(np.float32)
    return images, rng.random((16, 27, 8, 8)).astype(np.float32)


_TOKENS = 32 * LENGTH
_LETTERS = 6.0 * _TOKENS * (64 * 1024 + 256 * 1024 + 256 * VOCABULARY)
_LINEAR = 6.0 * _TOKENS * (4 * 12 * 128**2 + 128 * VOCABULARY)
_ATTENTION = 3 * 4 * 2 * 2.0 * _TOKENS * LENGTH * 128

_ADAM = {"lr": 1e-3}
_MOMENTUM = {"lr": 0.1, "momentum": 0.9}

WORKLOADS = {
    each.name: each
    for each in (
        _mlp("W1", (784, 128, 10), 64, "SGD", {"lr": 0.1}),
        _mlp("W2", (784, 1024, 1024, 10), 256, "Adam", {"lr": 1e-3}),
        Workload(
            "W3", "CNN", digits, _images(64, (1, 28, 28)), 4.58e9, "Adam", _ADAM, is_random=True
        ),
        Workload("W4", "ResNet-20", resnet20, _images(64, (3, 32, 32)), 15.6e9, "SGD", _MOMENTUM),
        Workload(
            "W5", "letter model, LSTM 256", letters, _text(32), _LETTERS, "Adam", {"lr": 1e-3}
        ),
        Workload(
            "W6", "GPT, 4 layers", gpt, _text(32), _LINEAR + _ATTENTION, "AdamW", {"lr": 1e-3}
        ),
        Workload("W7", "detector", detector, _scenes, 5.91e9, "Adam", _ADAM, "mse_loss"),
    )
}
