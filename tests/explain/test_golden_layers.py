"""Golden files for the layers of the mission: read them, they are the product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.explain.document import Explanation, explain

Golden = Callable[[str, str], None]


def weights(model: nn.Module) -> nn.Module:
    """Short numbers for every parameter, the same everywhere."""
    model.double()
    for number, parameter in enumerate(model.parameters()):
        size = parameter.numel()
        steps = (np.arange(size) * 7 + number * 3) % 11 - 5
        parameter.copy_(steps.reshape(parameter.shape) / 10)
    return model


def convolution() -> Explanation:
    model = nn.Sequential(
        nn.Conv2d(1, 1, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)
    )
    x = np.array([[[[1.0, 2.0, 0.5], [0.0, 1.5, -1.0], [2.0, -0.5, 1.0]]]])
    return explain(weights(model), x, [1], loss=nn.CrossEntropyLoss())


def batch_norm() -> Explanation:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    x, y = [[1.0], [2.0], [4.0]], [[0.0], [1.0], [1.0]]
    return explain(weights(model), x, y, loss=nn.MSELoss())


class LastStep(nn.Module):
    """The state after the last step, through a linear layer."""

    def __init__(self) -> None:
        self.rnn = nn.LSTM(1, 1, batch_first=True)
        self.head = nn.Linear(1, 1)

    def forward(self, x: Any) -> Any:
        _, (h, _) = self.rnn(x)
        return self.head(h[0])


def lstm() -> Explanation:
    return explain(weights(LastStep()), [[[1.0], [-0.5], [2.0]]], [[1.0]], loss=nn.MSELoss())


class Attention(nn.Module):
    """Causal self-attention with one head."""

    def __init__(self) -> None:
        self.query, self.key, self.value = (nn.Linear(2, 2, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention() -> Explanation:
    x = [[[1.0, 0.5], [-0.5, 1.0], [0.5, -1.0]]]
    return explain(weights(Attention()), x, np.zeros((1, 3, 2)), loss=nn.MSELoss())


def layer_norm() -> Explanation:
    x, y = [[1.0, 2.0, 4.0]], [[0.0, 0.0, 1.0]]
    return explain(weights(nn.LayerNorm(3)), x, y, loss=nn.MSELoss())


def embedding() -> Explanation:
    model = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(4, 1))
    return explain(weights(model), [[2, 2]], [[1.0]], loss=nn.MSELoss())


class Residual(nn.Module):
    """x + F(x): the gradient of x is that of the path, plus 1."""

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        a = self.first(x)
        return a + self.second(a.relu())


def residual() -> Explanation:
    return explain(weights(Residual()), [-1.0, 2.0], [0.0, 1.0], loss=nn.MSELoss())


def adam() -> Explanation:
    model = weights(nn.Linear(2, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    x, y = [1.0, 2.0], [1.0]
    return explain(model, x, y, loss=nn.MSELoss(), optimizer=optimizer, steps=2)


CASES = {
    made.__name__.replace("_", "-"): made
    for made in (
        convolution,
        batch_norm,
        lstm,
        attention,
        layer_norm,
        embedding,
        residual,
        adam,
    )
}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", CASES)
def test_layers(name: str, lang: str, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", lang)
    golden(f"layer-{name}.{lang}.txt", str(CASES[name]()))


def test_the_same_weights_at_every_step() -> None:
    text = str(lstm())
    gradient = next(
        line for line in text.splitlines() if line.strip().startswith("dL/dw[2]_1 = dL/dz<")
    )
    assert gradient.count("dL/dz<") == 3  # a sum over time, one term a step
    assert "|dL/dh<3>|" in text
    assert cr.default_dtype() == cr.float32
