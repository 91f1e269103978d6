"""Indexing against NumPy and PyTorch: random basic and advanced indices, changed copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.errors import DTypeError, IndexRangeError, InPlaceError, ShapeError

SHAPE = (4, 5, 3)
X = np.random.default_rng(0).normal(size=SHAPE)


@st.composite
def indices(draw: st.DrawFn) -> tuple[Any, ...]:
    """Basic parts, and index arrays on axes beside each other."""
    count = draw(st.integers(0, 3))
    arrays = draw(st.sampled_from([(), (0,), (1,), (2,), (0, 1), (1, 2)]))
    lengths = draw(st.sampled_from([(2,), (3,), (2, 2), (0,), (1, 3)]))
    parts: list[Any] = []
    for axis in range(count):
        n = SHAPE[axis]
        if axis in arrays:
            flat = draw(st.lists(st.integers(-n, n - 1), min_size=9, max_size=9))
            parts.append(np.array(flat[: int(np.prod(lengths))], dtype=np.int64).reshape(lengths))
        elif draw(st.booleans()) and not arrays:
            parts.append(draw(st.integers(-n, n - 1)))
        else:
            ends = st.none() | st.integers(-n - 1, n + 1)
            step = draw(st.sampled_from([None, 1, 2, 3, -1, -2]))
            parts.append(slice(draw(ends), draw(ends), step))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))) if not arrays else len(parts), Ellipsis)
    if draw(st.booleans()):
        parts.insert(0, None)
    return tuple(parts)


def ours(index: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(cr.tensor(part) if isinstance(part, np.ndarray) else part for part in index)


def the_same(actual: Any, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12, atol=1e-14)


@given(indices())
def test_getitem_is_numpys(index: tuple[Any, ...]) -> None:
    x = cr.tensor(X, requires_grad=True)
    y = x[ours(index)]
    the_same(y, X[index])
    weights = np.cos(np.arange(y.numel())).reshape(y.shape)
    (y * weights).sum().backward()
    expected = np.zeros(SHAPE)
    np.add.at(expected, index, weights)
    the_same(x.grad, expected)


@given(indices(), st.booleans())
def test_changed_copies_are_numpys(index: tuple[Any, ...], scalar: bool) -> None:
    x = cr.tensor(X)
    picked = X[index]
    value = 0.5 if scalar else np.sin(np.arange(picked.size)).reshape(picked.shape)
    expected = X.copy()
    expected[index] = value
    the_same(x.at[ours(index)].set(value), expected)
    expected = X.copy()
    np.add.at(expected, index, value)
    the_same(x.at[ours(index)].add(value), expected)
    expected = X.copy()
    expected[index] *= value
    the_same(x.at[ours(index)].multiply(value), expected)
    assert x.tolist() == X.tolist()


@pytest.mark.parametrize(
    "index",
    [
        1,
        (slice(None), 2),
        (slice(None, None, -2),),
        np.array([3, 1]),
        (slice(1, 3), np.array([0, 4, 2])),
    ],
)
def test_gradients_of_changed_copies(index: Any) -> None:
    inside = ours(index if isinstance(index, tuple) else (index,))
    picked = X[index]
    value = np.sin(np.arange(picked.size) + 1.0).reshape(picked.shape)
    weights = cr.tensor(np.cos(np.arange(X.size)).reshape(X.shape))
    for change in ("set", "add", "multiply"):
        cr.gradcheck(lambda x, v, c=change: getattr(x.at[inside], c)(v) * weights, X, value)


def test_repeated_indices() -> None:
    index = cr.tensor([1, 1, 0])
    x = cr.zeros(3)
    assert x.at[index].add(1.0).tolist() == [1, 2, 0]
    assert x.at[index].set(cr.tensor([1.0, 2.0, 3.0])).tolist() == [3, 2, 0]
    weights = cr.tensor([1.0, 2, 3], cr.float64)
    cr.gradcheck(lambda x, v: x.at[index].set(v) * weights, X[0, :3, 0], X[1, :3, 0])


def test_masks() -> None:
    mask = X[..., 0] > 0
    the_same(cr.tensor(X)[cr.tensor(mask)], X[mask])
    the_same(cr.tensor(X)[cr.tensor(X) > 0], X[X > 0])
    changed = X.copy()
    changed[X < 0] = 0
    the_same(cr.tensor(X).at[cr.tensor(X) < 0].set(0.0), changed)
    with pytest.raises(ShapeError, match="a mask as long as the axes it stands at"):
        cr.tensor(X)[cr.tensor([True, False])]


def test_lists_and_tensors_of_one_number() -> None:
    x = cr.tensor(X)
    the_same(x[[2, 0]], X[[2, 0]])
    the_same(x[cr.tensor(1)], X[1])
    the_same(x[cr.tensor(1) + cr.tensor(1)], X[2])
    the_same(x[[0, 1], [1, 2]], X[[0, 1], [1, 2]])
    the_same(x[[[0], [1]], [1, 2]], X[[[0], [1]], [1, 2]])
    the_same(x[[]], X[[]])


def test_a_number_beside_a_list_is_taken_first_as_in_pytorch() -> None:
    expected = torch.tensor(X)[0, :, [1, 2]].numpy()
    the_same(cr.tensor(X)[0, :, [1, 2]], expected)


def test_range() -> None:
    x = cr.tensor(X)
    with pytest.raises(IndexRangeError, match=r"index 4 at position axis 0 is outside 0\.\.3"):
        x[4]
    with pytest.raises(IndexRangeError, match=r"index 7 at position 1 is outside 0\.\.4"):
        x[:, cr.tensor([0, 7])].tolist()
    with pytest.raises(IndexRangeError):
        x[cr.tensor([0, 1]), cr.tensor([0, 5])].tolist()  # must not reach into the next row
    with pytest.raises(IndexRangeError):
        x[cr.tensor([0]), cr.tensor([-6])].tolist()


def test_what_is_not_an_index() -> None:
    x = cr.tensor(X)
    with pytest.raises(DTypeError, match="indexing needs whole numbers, slices"):
        x[1.0]
    with pytest.raises(DTypeError, match="indexing needs whole numbers, slices"):
        x[[0.5]]
    with pytest.raises(DTypeError, match="indexing needs whole numbers, slices"):
        x["a"]
    with pytest.raises(ShapeError, match="at most 3 indices"):
        x[0, 0, 0, 0]
    with pytest.raises(ShapeError, match="neighbouring"):
        x[[0, 1], :, [0, 1]]


def test_assignment_names_the_mend() -> None:
    x = cr.zeros(3)
    with pytest.raises(InPlaceError) as caught:
        x[0] = 1
    assert "x.at[i].set(v)" in str(caught.value)
    assert "test_indexing.py:" in str(caught.value)


def test_parts_of_data_are_data() -> None:
    """Known at once, so that a batch is no graph, and its place no part of a step's structure."""
    x = cr.tensor(np.arange(12.0).reshape(4, 3), cr.float32)
    for index in (1, -1, slice(1, 3), (slice(None), 2), (..., None), [0, 2], cr.tensor([3, -1])):
        part = x[index]
        assert part._node.value is not None
        expected = x.numpy()[index.numpy() if isinstance(index, cr.Tensor) else index]
        np.testing.assert_array_equal(part.numpy(), expected)
    batch = cr.stack([x[0], x[1]], dim=1)
    assert batch._node.value is not None
    assert batch.tolist() == [[0, 3], [1, 4], [2, 5]]
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    assert w[0].requires_grad
    assert (w * 2)[0]._node.value is None
    assert cr.compile(lambda x: x[1:2].sum())(x).item() == 12
    with pytest.raises(IndexRangeError):
        x[4]
