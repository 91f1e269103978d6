"""Convolutions and pooling of rows that are too long for a thread's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle import derived, input_nodes

from chainrule.core.graph import Array, Graph
from chainrule.core.ops.convolution import convolution, transposed_convolution
from chainrule.core.ops.pooling import max_pool
from chainrule.run.native import cuts
from chainrule.run.native.plan import Plan


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_near(found: Array, exact: Array) -> None:
    """Relative to the norm; the sums have up to some hundred thousand terms."""
    assert found.shape == exact.shape
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error < 1e-6, error


CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    ((1, 64, 5000), (64, 64, 7), {"padding": 3}),
    ((1, 1, 300_001), (4, 1, 9), {"padding": 4, "dilation": 3}),
    ((1, 2, 300_000), (4, 1, 64), {"stride": 16, "groups": 2}),
    ((1, 2, 3, 100_003), (3, 2, 3, 3), {"padding": 2, "stride": 2}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CASES)
def test_convolution(x_shape: Any, w_shape: Any, options: dict[str, Any]) -> None:
    """Forward and both gradients, against PyTorch in float64."""
    x, w = draw(*x_shape), draw(*w_shape, seed=1)
    a, b = (torch.from_numpy(each).double().requires_grad_() for each in (x, w))
    y = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")(a, b, **options)
    g = draw(*y.shape, seed=2)
    exact = [y, *torch.autograd.grad(y, (a, b), torch.from_numpy(g).double())]
    nodes = input_nodes([x, w, g])
    made = convolution(nodes[0], nodes[1], **options)
    graph = Graph(nodes, [made, *derived([made], nodes[:2], nodes[2:])])
    for found, each in zip(Plan(graph)([x, w, g], []), exact, strict=True):
        assert_near(found, each.numpy(force=True))


def test_long_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into parts that are added: with less room, so that the test is quick."""
    monkeypatch.setattr(cuts, "ROOM", 4000)
    monkeypatch.setattr(cuts, "_TAPS", 256)
    test_convolution((2, 3, 3001), (2, 3, 700), {"padding": 5, "dilation": 2, "stride": 2})
    test_convolution((1, 2, 2, 3001), (4, 1, 2, 700), {"groups": 2})


def test_transposed_convolution() -> None:
    """The input is spread out, so that runs begin between its entries."""
    x, w = draw(1, 8, 40_000), draw(8, 6, 5, seed=1)
    nodes = input_nodes([x, w])
    made = transposed_convolution(nodes[0], nodes[1], stride=3, padding=1)
    (found,) = Plan(Graph(nodes, [made]))([x, w], [])
    wide = [torch.from_numpy(each).double() for each in (x, w)]
    exact = torch.nn.functional.conv_transpose1d(*wide, stride=3, padding=1)
    assert_near(found, exact.numpy())


def test_max_pool() -> None:
    """Forward, places, and the way back."""
    x = draw(1, 2, 300_001)
    a = torch.from_numpy(x).requires_grad_()
    y, places = torch.nn.functional.max_pool1d(a, 5, 2, 2, return_indices=True)
    g = draw(*y.shape, seed=1)
    (dx,) = torch.autograd.grad(y, a, torch.from_numpy(g))
    nodes = input_nodes([x, g])
    made = max_pool(nodes[0], 5, 2, 2, rank=1)
    graph = Graph(nodes, [*made, *derived(made[:1], nodes[:1], nodes[1:])])
    found = Plan(graph)([x, g], [])
    np.testing.assert_array_equal(found[0], y.numpy(force=True))
    np.testing.assert_array_equal(found[1], places.numpy())
    np.testing.assert_allclose(found[2], dx.numpy(), rtol=1e-6)
