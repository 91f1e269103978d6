"""The training steps that are measured, each in chainrule and in PyTorch, side by side.

W1: MLP 784-128-10, ReLU, softmax cross-entropy, SGD, batch 64.
W2: MLP 784-1024-1024-10, the same with Adam, batch 256.
W5: letter model, vocabulary 96: embedding 64, LSTM 256, length 64, Adam, batch 32.
W6: GPT, vocabulary 96, width 128, 4 heads, 4 layers, length 64, AdamW, batch 32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    """

    name: str
    about: str
    model: Callable[[Any], Any]
    data: Callable[[], tuple[Array, Array]]
    flops: float
    optimizer: str
    options: Mapping[str, float]


def chainrule_step(workload: Workload) -> Step:
    """The step in chainrule, compiled, on the executor that is set."""
    import chainrule as cr
    from chainrule import nn, optim

    cr.manual_seed(0)
    model = workload.model(nn)
    optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.options)

    def step(inputs: cr.Tensor, classes: cr.Tensor) -> cr.Tensor:
        scores = model(inputs)
        loss = nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), classes)
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    inputs, classes = workload.data()
    return lambda: compiled(inputs, classes).item()


def torch_step(workload: Workload, fused: bool) -> Step:
    """The step in PyTorch, eager, from the same weights; ``fused`` takes the fused optimizer."""
    import torch

    import chainrule as cr
    from chainrule import nn

    cr.manual_seed(0)
    start = {name: x.numpy() for name, x in workload.model(nn).state_dict().items()}
    model = workload.model(torch.nn)
    model.load_state_dict({name: torch.tensor(array) for name, array in start.items()})
    make = getattr(torch.optim, workload.optimizer)
    optimizer = make(model.parameters(), fused=fused, **workload.options)
    inputs, classes = map(torch.from_numpy, workload.data())

    def step() -> float:
        optimizer.zero_grad()
        scores = model(inputs)
        scores = scores.reshape(-1, scores.shape[-1])
        loss = torch.nn.functional.cross_entropy(scores, classes)
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


_TOKENS = 32 * LENGTH
_LETTERS = 6.0 * _TOKENS * (64 * 1024 + 256 * 1024 + 256 * VOCABULARY)
_LINEAR = 6.0 * _TOKENS * (4 * 12 * 128**2 + 128 * VOCABULARY)
_ATTENTION = 3 * 4 * 2 * 2.0 * _TOKENS * LENGTH * 128

WORKLOADS = {
    each.name: each
    for each in (
        _mlp("W1", (784, 128, 10), 64, "SGD", {"lr": 0.1}),
        _mlp("W2", (784, 1024, 1024, 10), 256, "Adam", {"lr": 1e-3}),
        Workload(
            "W5", "letter model, LSTM 256", letters, _text(32), _LETTERS, "Adam", {"lr": 1e-3}
        ),
        Workload(
            "W6", "GPT, 4 layers", gpt, _text(32), _LINEAR + _ATTENTION, "AdamW", {"lr": 1e-3}
        ),
    )
}
