"""Gather and scatter along an axis, against PyTorch; Bernoulli draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.errors import IndexRangeError, ShapeError


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, int, Any, Any]:
    """A tensor, an axis, an index without repeats along it, a source."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    lengths = [draw(st.integers(1, n)) for n in shape]
    index = np.zeros(lengths, np.int64)
    spread = np.moveaxis(index, dim, -1)
    spread[...] = rng.permuted(
        np.broadcast_to(np.arange(shape[dim]), (*spread.shape[:-1], shape[dim])), axis=-1
    )[..., : spread.shape[-1]]
    return rng.normal(size=shape), dim, index, rng.normal(size=lengths)


@pytest.mark.parametrize("name", ["scatter", "scatter_add"])
def test_scatter_is_pytorchs(name: str) -> None:
    @given(cases())
    def check(case: tuple[Any, int, Any, Any]) -> None:
        x, dim, index, src = case
        a, b = (torch.tensor(v, requires_grad=True) for v in (x, src))
        expected = getattr(a, name)(dim, torch.tensor(index), b)
        (expected * expected).sum().backward()

        def total(a: Any, b: Any) -> Any:
            made = getattr(a, name)(dim, cr.tensor(index), b)
            np.testing.assert_allclose(made.numpy(), expected.detach().numpy(), rtol=1e-12)
            return (made * made).sum()

        found = cr.grad(total, (0, 1))(cr.tensor(x), cr.tensor(src))
        for gradient, twin in zip(found, (a, b), strict=True):
            np.testing.assert_allclose(gradient.numpy(), twin.grad, rtol=1e-12, atol=1e-14)

    check()


def test_every_source_counts_in_scatter_add() -> None:
    index, src = np.array([[0, 0, 2], [1, 1, 1]]), np.arange(6.0).reshape(2, 3)
    expected = torch.zeros(2, 4).double().scatter_add(1, torch.tensor(index), torch.tensor(src))
    found = cr.zeros(2, 4, dtype="float64").scatter_add(1, cr.tensor(index), cr.tensor(src))
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    last = cr.zeros(2, 4, dtype="float64").scatter(1, cr.tensor(index), cr.tensor(src))
    assert last.tolist() == [[1, 0, 2, 0], [0, 5, 0, 0]]  # of several the last


def test_one_hot_by_scatter() -> None:
    labels = cr.tensor([[2], [0]])
    assert cr.scatter(cr.zeros(2, 3), 1, labels, 1.0).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert cr.gather(cr.tensor([[5, 6, 7], [8, 9, 10]]), 1, labels).tolist() == [[7], [8]]
    assert cr.flip(cr.tensor([1, 2, 3]), 0).tolist() == [3, 2, 1]


def test_misfits() -> None:
    x = cr.zeros(2, 3)
    for place in (3, -1):
        with pytest.raises(IndexRangeError):
            x.scatter(1, cr.tensor([[place]]), 1.0).numpy()
        with pytest.raises(IndexRangeError):
            x.scatter_add(1, cr.tensor([[place]]), 1.0).numpy()
    with pytest.raises(ShapeError, match="an index with 2 axes"):
        x.scatter(1, cr.tensor([0]), 1.0)
    with pytest.raises(ShapeError, match="none longer"):
        x.scatter(1, cr.tensor([[0], [0], [0]]), 1.0)


def test_bernoulli() -> None:
    drawn = cr.bernoulli(cr.full((20_000,), 0.3)).numpy()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert drawn.dtype == np.float32
    assert drawn.mean() == pytest.approx(0.3, abs=0.02)
    assert cr.bernoulli(cr.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]
