"""Broadcasting, indexing and folding of random shapes against PyTorch; messages of misfits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import (
    Case,
    Derivation,
    assert_equal,
    input_nodes,
    run,
    torch_derivatives,
    torch_forward,
)
from samples import normal, truth, whole

from chainrule.core.graph import Node
from chainrule.core.ops import linear, reduction, shape
from chainrule.core.ops.arithmetic import maximum, mul, where
from chainrule.core.ops.functions import linear as linear_layer
from chainrule.core.ops.functions import mse_loss, softmax
from chainrule.errors import ChainruleError, LayerInputError, ShapeError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def check(case: Case) -> None:
    """Value and first derivative on both executors."""
    xs, outputs = case.nodes()
    derivation = Derivation(case)
    for executor in ("interpreter", "torch"):
        found = run(outputs, xs, case.inputs, executor)
        assert_equal(found, torch_forward(case), rtol=1e-10, atol=1e-12)
        grads = run(derivation.first, derivation.inputs, derivation.arrays, executor)
        assert_equal(grads, torch_derivatives(case)[0], rtol=1e-10, atol=1e-12)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4))
def test_two_operands(shapes: Any) -> None:
    arrays = tuple(normal(*size, seed=seed) for seed, size in enumerate(shapes.input_shapes))
    check(Case(mul, torch.mul, arrays))
    check(Case(maximum, torch.maximum, arrays))


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=3))
def test_three_operands(shapes: Any) -> None:
    c, a, b = shapes.input_shapes
    check(Case(where, torch.where, (truth(*c), normal(*a, seed=1), normal(*b, seed=2))))


@given(hnp.mutually_broadcastable_shapes(signature="(m,k),(k,n)->(m,n)", max_dims=2, max_side=3))
def test_matrix_products(shapes: Any) -> None:
    left, right = shapes.input_shapes
    check(Case(linear.matmul, torch.matmul, (normal(*left), normal(*right, seed=1))))


@given(SHAPES, st.data())
def test_folding_any_axes(size: tuple[int, ...], data: st.DataObject) -> None:
    axis = st.integers(-len(size), len(size) - 1)
    dims = data.draw(st.lists(axis, min_size=1, unique_by=lambda dim: dim % len(size)))
    keep = data.draw(st.booleans())
    array = (normal(*size),)
    check(Case(lambda x: reduction.sum(x, dims, keep), lambda x: x.sum(dims, keep), array))
    if all(size[dim] for dim in dims):
        check(Case(lambda x: reduction.amax(x, dims, keep), lambda x: x.amax(dims, keep), array))
        check(Case(lambda x: reduction.amin(x, dims, keep), lambda x: x.amin(dims, keep), array))


@given(SHAPES, st.data())
def test_slices(size: tuple[int, ...], data: st.DataObject) -> None:
    """Also those with nothing left over at the end, which the gradient's padding must fit."""
    bounds = []
    for length in size:
        start = data.draw(st.integers(0, length))
        stop = data.draw(st.integers(start, length))
        bounds.append((start, stop, data.draw(st.integers(1, 3))))
    starts, stops, steps = (tuple(part) for part in zip(*bounds, strict=True))
    windows = tuple(slice(*bound) for bound in bounds)
    check(
        Case(
            lambda x: shape.slice_(x, starts, stops, steps), lambda x: x[windows], (normal(*size),)
        )
    )


@given(SHAPES, st.data())
def test_taking_rows(size: tuple[int, ...], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(size), len(size) - 1))
    length = size[dim]
    index = whole(0, max(length, 1), data.draw(st.integers(0, 5)) if length else 0)
    check(
        Case(
            lambda x, i: shape.take(x, i, dim),
            lambda x, i: x.index_select(dim, i),
            (normal(*size), index),
        )
    )


@given(SHAPES, st.data())
def test_permuting(size: tuple[int, ...], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(size))))
    check(Case(lambda x: shape.permute(x, order), lambda x: x.permute(order), (normal(*size),)))


# ------------------------------------------------------------------------------ small builders

WHOLE = np.array([[3, -7, 2], [0, 5, 5]])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float64])
def test_smallest_entries(dtype: Any) -> None:
    array = np.abs(WHOLE).astype(dtype) if dtype == np.uint8 else WHOLE.astype(dtype)
    (x,) = input_nodes([array])
    found = run([reduction.amin(x, 1), reduction.amin(x)], [x], [array])
    assert found[0].tolist() == array.min(1).tolist()
    assert found[1] == array.min()


def test_any_and_all() -> None:
    array = np.array([[True, False], [True, True], [False, False]])
    (x,) = input_nodes([array])
    found = run([reduction.any(x, 1), reduction.all(x, 1), reduction.any(x)], [x], [array])
    assert [part.tolist() for part in found] == [[True, True, False], [False, True, False], True]


def test_one_hot() -> None:
    array = np.array([[2], [0]])
    (x,) = input_nodes([array])
    (found,) = run([shape.one_hot(x, 3, np.dtype(np.float32))], [x], [array])
    assert found.tolist() == [[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]]


# ------------------------------------------------------------------------------ misfits

A, B = np.zeros((2, 3)), np.zeros((4, 5))
MISFITS: list[tuple[Callable[[Node, Node], Any], type[ChainruleError], str]] = [
    (lambda a, b: a + b, ShapeError, r"\(2, 3\) and \(4, 5\)"),
    (linear.matmul, ShapeError, r"\(2, 3\) @ \(4, 5\)"),
    (lambda a, b: linear.matmul(a, reduction.sum(b)), ShapeError, "at least one axis"),
    (lambda a, b: linear_layer(a, b), LayerInputError, "expects 5 input features .* but got 3"),
    (lambda a, b: shape.reshape(a, (4, 2)), ShapeError, r"6 entries, as \(2, 3\) has"),
    (lambda a, b: shape.reshape(a, (-1, -1)), ShapeError, "one length may be -1"),
    (lambda a, b: shape.reshape(a, (4, -1)), ShapeError, "6 entries"),
    (lambda a, b: shape.permute(a, (0, 0)), ShapeError, "each of the 2 axes once"),
    (lambda a, b: shape.broadcast_to(a, (3, 2)), ShapeError, r"that \(2, 3\) can stretch to"),
    (lambda a, b: shape.broadcast_to(a, (3,)), ShapeError, "stretch"),
    (lambda a, b: shape.concatenate([a, b]), ShapeError, "equal lengths on every axis but 0"),
    (lambda a, b: reduction.sum(a, 2), ShapeError, r"a dim in -2\.\.1, but got dim=2"),
    (lambda a, b: softmax(a, -3), ShapeError, r"softmax needs a dim in -2\.\.1"),
    (lambda a, b: reduction.amax(shape.slice_(a, (0, 0), (0, 3)), 0), ShapeError, "at least one"),
    (lambda a, b: mse_loss(a, b, reduction="mean"), ShapeError, r"prediction's shape \(2, 3\)"),
]


@pytest.mark.parametrize(("build", "error", "message"), MISFITS)
def test_misfits(build: Any, error: type[ChainruleError], message: str) -> None:
    a, b = input_nodes([A, B])
    with pytest.raises(error, match=message) as caught:
        build(a, b)
    assert "test_shapes.py:" in str(caught.value)
