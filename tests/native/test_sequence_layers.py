"""Recurrent layers and Transformer layers, forward and backward, against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.run.native.plan import Plan

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: nn.RNN(5, 7, batch_first=True),
    "relu": lambda: nn.RNN(5, 7, nonlinearity="relu"),
    "lstm": lambda: nn.LSTM(5, 7, batch_first=True),
    "lstm without bias": lambda: nn.LSTM(5, 7, bias=False),
    "gru": lambda: nn.GRU(5, 7, batch_first=True),
    "both directions": lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True),
    "gru, both": lambda: nn.GRU(5, 7, num_layers=2, bidirectional=True),
    "dropout": lambda: nn.LSTM(5, 7, num_layers=2, dropout=0.5),
    "encoder": lambda: nn.TransformerEncoderLayer(5, 1, 11, batch_first=True),
    "norm first": lambda: nn.TransformerEncoderLayer(5, 5, 6, 0.0, "gelu", norm_first=True),
}


def first(result: Any) -> cr.Tensor:
    found = result[0] if isinstance(result, tuple) else result
    assert isinstance(found, cr.Tensor)
    return found


def results(layer: nn.Module, native: bool, call: Callable[..., Any], *args: Any) -> list[Any]:
    """The output, and the gradients of all parameters."""
    cr.set_executor("native" if native else "interpreter")
    cr.manual_seed(3)
    layer.zero_grad()  # else they add up

    def step(*args: Any) -> list[cr.Tensor]:
        y = first(call(layer, *args))
        (y * y).mean().backward()
        return [y, *(p.grad for p in layer.parameters() if p.grad is not None)]

    compiled = cr.compile(step)
    found = [x.numpy() for x in compiled(*args)]
    (entry,) = compiled._entries.values()
    assert isinstance(entry.plan, Plan) == native
    return found


def compare(layer: nn.Module, call: Callable[..., Any], *args: Any) -> None:
    found, expected = (results(layer, native, call, *args) for native in (True, False))
    assert len(found) == len(expected) > 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


def data(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 6), (1, 1), (4, 33)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, shape: tuple[int, int]) -> None:
    cr.manual_seed(0)
    compare(LAYERS[name](), lambda layer, x: layer(x), data(*shape, 5))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "both directions"])
def test_lengths(name: str) -> None:
    cr.manual_seed(0)
    lengths = np.array([6, 1, 4])
    compare(LAYERS[name](), lambda layer, x: layer(x, lengths=lengths), data(3, 6, 5))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_under_a_mask(causal: bool) -> None:
    cr.manual_seed(0)
    layer = nn.MultiheadAttention(6, 3, batch_first=True)
    padding = np.arange(9) >= np.array([[9], [5]])
    mask = cr.tensor(np.triu(np.ones((9, 9), bool), 1)) if causal else None

    def call(layer: nn.Module, x: cr.Tensor, padding: cr.Tensor) -> Any:
        return layer(x, x, x, key_padding_mask=padding, attn_mask=mask)

    compare(layer, call, data(2, 9, 6), padding)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_truncated_back_propagation(every: int) -> None:
    cr.manual_seed(0)
    cell = nn.LSTMCell(5, 7)

    def call(layer: nn.Module, xs: cr.Tensor) -> Any:
        def body(state: Any, x: cr.Tensor) -> Any:
            state = layer(x, state)
            return state, state[0]

        start = (cr.zeros(3, 7), cr.zeros(3, 7))
        return cr.scan(body, start, xs, truncate=every)[1]

    compare(cell, call, data(11, 3, 5))
