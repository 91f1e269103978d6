"""Tensors cut into parts, repeated, masked, summed up and ranked: against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor import functions

X = np.random.default_rng(0).permutation(24).reshape(4, 6) / 7.0
MASK = X > 1.7

SAME = {
    "split": lambda x: x.split(4, 1),
    "split of sizes": lambda x: x.split([1, 0, 3]),
    "chunk": lambda x: x.chunk(3),
    "chunk along": lambda x: x.chunk(4, -1),
    "unbind": lambda x: x.unbind(-1),
    "narrow": lambda x: x.narrow(1, 2, 3),
    "repeat": lambda x: x.repeat(2, 1, 3),
    "repeat of none": lambda x: x.repeat(0, 2),
    "tril": lambda x: x.tril(),
    "tril 1": lambda x: x.tril(1),
    "triu": lambda x: x.triu(),
    "triu -1": lambda x: x.triu(-1),
    "cumsum": lambda x: x.cumsum(0),
    "topk": lambda x: tuple(x.topk(3)),
    "topk smallest": lambda x: tuple(x.topk(2, 0, False)),
}


def check(found: Any, expected: Any, x: Any, t: Any) -> None:
    found, expected = ([y] if not isinstance(y, tuple) else list(y) for y in (found, expected))
    assert len(found) == len(expected)
    ours, theirs = cr.zeros(()).double(), torch.zeros(()).double()
    for y, z in zip(found, expected, strict=True):
        assert y.shape == tuple(z.shape)
        np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-14)
        if z.requires_grad:
            weights = np.cos(np.arange(y.numel())).reshape(y.shape)
            ours, theirs = ours + (y * weights).sum(), theirs + (z * torch.tensor(weights)).sum()
    ours.backward()
    theirs.backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", SAME)
def test_as_pytorch(name: str) -> None:
    x, t = cr.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    check(SAME[name](x), SAME[name](t), x, t)


@pytest.mark.parametrize("value", [-np.inf, 2, 0.5])
def test_masked_fill(value: float) -> None:
    x, t = cr.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    found = x.masked_fill(cr.tensor(MASK), value)
    np.testing.assert_array_equal(
        found.numpy(), t.masked_fill(torch.tensor(MASK), value).detach().numpy()
    )
    found.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), ~MASK)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("split", (2,)), ("chunk", (2,)), ("unbind", (1,)), ("topk", (2,)), ("cumsum", (1,)),
        ("tril", (1,)), ("triu", (1,)),
    ],
)  # fmt: skip
def test_functions_are_the_methods(name: str, args: tuple[int, ...]) -> None:
    x = cr.tensor(X)
    for a, b in zip(getattr(functions, name)(x, *args), getattr(x, name)(*args), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (OptionError, lambda x: x.split(0)),
        (ShapeError, lambda x: x.split([1, 2])),
        (OptionError, lambda x: x.chunk(0)),
        (OptionError, lambda x: x.topk(7)),
        (ShapeError, lambda x: x.narrow(0, 3, 2)),
        (ShapeError, lambda x: x.repeat(2)),
        (ShapeError, lambda x: x[0].tril()),
    ],
)
def test_misfits_name_the_line(error: type[Exception], make: Any) -> None:
    with pytest.raises(error, match=r"test_parts\.py"):
        make(cr.tensor(X))
