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
from functools import partial
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
        network: its kind; JAX has a function of its own for each.
        first: operations of the first layer's forward pass; the gradient of its input is not made.
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
    network: str = "mlp"
    first: float = 0.0

    @property
    def forward_flops(self) -> float:
        """Products and sums of a forward pass over the batch: a third of those of a step."""
        return (self.flops + self.first) / 3

    def scores(self, outputs: Any) -> Any:
        """What the loss takes: for classes a matrix with a row per position."""
        is_rows = self.loss == "cross_entropy"
        return outputs.reshape(-1, outputs.shape[-1]) if is_rows else outputs


def chainrule_training(workload: Workload) -> Callable[..., Any]:
    """The step in chainrule as a function of inputs and classes, compiled."""
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

    return cr.compile(step)


def chainrule_step(workload: Workload) -> Step:
    """The step in chainrule, compiled, on the executor that is set."""
    run = chainrule_training(workload)
    inputs, classes = workload.data()
    return lambda: run(inputs, classes).item()


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
    return Workload(name, about, model, data, flops, optimizer, options, first=each[0])


def _text(batch: int, length: int = LENGTH) -> Callable[[], tuple[Array, Array]]:
    def data() -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        text = rng.integers(0, VOCABULARY, (batch, length + 1))
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


def _letter_flops(batch: int) -> float:
    return 6.0 * batch * LENGTH * (64 * 1024 + 256 * 1024 + 256 * VOCABULARY)


def _gpt_flops(batch: int, layers: int = 4, length: int = LENGTH) -> float:
    tokens, width = batch * length, 128
    linear = 6.0 * tokens * (layers * 12 * width**2 + width * VOCABULARY)
    return linear + 3 * layers * 2 * 2.0 * tokens * length * width


_ADAM = {"lr": 1e-3}
_MOMENTUM = {"lr": 0.1, "momentum": 0.9}

WORKLOADS = {
    each.name: each
    for each in (
        _mlp("W1", (784, 128, 10), 64, "SGD", {"lr": 0.1}),
        _mlp("W2", (784, 1024, 1024, 10), 256, "Adam", _ADAM),
        Workload(
            "W3", "CNN, Adam", digits, _images(64, (1, 28, 28)), 4.58e9, "Adam", _ADAM,
            is_random=True, network="digits", first=2.0 * 64 * 26**2 * 32 * 9,
        ),
        Workload(
            "W4", "ResNet-20, SGD", resnet20, _images(64, (3, 32, 32)), 15.6e9, "SGD", _MOMENTUM,
            network="resnet20", first=2.0 * 64 * 32**2 * 16 * 27,
        ),
        Workload(
            "W5", "letter model, LSTM 256, Adam", letters, _text(32), _letter_flops(32), "Adam",
            _ADAM, network="letters",
        ),
        Workload(
            "W6", "GPT, 4 layers, AdamW", gpt, _text(32), _gpt_flops(32), "AdamW", _ADAM,
            network="gpt",
        ),
        Workload(
            "W7", "detector, Adam", detector, _scenes, 5.91e9, "Adam", _ADAM, "mse_loss",
            network="detector", first=2.0 * 16 * 128**2 * 16 * 27,
        ),
    )
}  # fmt: skip

# ------------------------------------------------------------------------------ one size varied

# What is varied, and how far; ``dev.py bench --scaling`` measures a step at each.
SIZES = {
    "batch": (1, 4, 16, 64, 256, 1024),
    "width": (16, 64, 256, 1024, 4096),
    "sequence": (16, 64, 256, 1024, 2048),
    "depth": (2, 8, 32, 64),
}


def sized(kind: str, size: int) -> Workload:
    """A workload of which one size is varied.

    ``batch``: W1 at another batch. ``width``: an MLP of three square layers, batch 64. ``depth``:
    an MLP of so many layers of 128, batch 64. ``sequence``: one layer of W6, one text of a length.
    """
    name = f"{kind}:{size}"
    if kind == "batch":
        return _mlp(name, (784, 128, 10), size, "SGD", {"lr": 0.1})
    if kind == "width":
        return _mlp(name, (size,) * 4, 64, "Adam", _ADAM)
    if kind == "depth":
        return _mlp(name, (128,) * (size + 1), 64, "Adam", _ADAM)
    return Workload(
        name, "GPT, 1 layer, AdamW", partial(gpt, layers=1, length=size), _text(1, size),
        _gpt_flops(1, 1, size), "AdamW", _ADAM, network="gpt",
    )  # fmt: skip


def named(name: str) -> Workload:
    """``W1`` to ``W7``, or one like ``width:256``."""
    kind, _, size = name.partition(":")
    return sized(kind, int(size)) if size else WORKLOADS[name]
