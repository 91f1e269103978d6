"""Element types: names, promotion against PyTorch's, weak Python numbers, the mixture refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from oracle import input_nodes, run

from chainrule.core import dtype as types
from chainrule.core.graph import Node
from chainrule.core.op import Op
from chainrule.core.ops.arithmetic import (
    abs,
    add,
    div,
    exp,
    floor_divide,
    maximum,
    minimum,
    neg,
    pow,
    remainder,
    sign,
    sub,
    where,
)
from chainrule.core.ops.reduction import sum
from chainrule.errors import DTypeError, OptionError

ALL = list(types.DTYPES.values())


def sample(dtype: np.dtype) -> np.ndarray:
    return np.ones(2, dtype)


def node(dtype: np.dtype) -> Node:
    return input_nodes([sample(dtype)])[0]


@pytest.mark.parametrize(("left", "right"), list(itertools.product(ALL, ALL)), ids=str)
def test_promotion(left: np.dtype, right: np.dtype) -> None:
    """As PyTorch, but for two float types (an error) and uint32 (PyTorch has no rule for it)."""
    if {left.name, right.name} == {"float32", "float64"}:
        with pytest.raises(DTypeError, match=r"float32 and float64|float64 and float32") as caught:
            add(node(left), node(right))
        assert "x.double()" in str(caught.value)
        return
    found = add(node(left), node(right)).dtype
    assert found == types.promote("add", right, left)
    if types.uint32 not in (left, right):
        expected = torch.promote_types(getattr(torch, left.name), getattr(torch, right.name))
        assert f"torch.{found}" == str(expected)


def test_bytes_and_short_numbers_meet_as_pytorch_has_it() -> None:
    assert add(node(types.uint8), node(types.int32)).dtype == types.int32
    assert add(node(types.bool_), node(types.uint8)).dtype == types.uint8


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("number", [True, 2, 2.5])
def test_python_numbers_are_weak(dtype: np.dtype, number: bool | int | float) -> None:
    found = add(node(dtype), number).dtype
    assert found == add(number, node(dtype)).dtype
    if dtype == types.uint32:
        assert found == (types.float32 if isinstance(number, float) else types.uint32)
    else:
        expected = torch.result_type(torch.ones(2, dtype=getattr(torch, dtype.name)), number)
        assert f"torch.{found}" == str(expected)


def test_a_weak_number_is_rounded_to_the_tensors_type() -> None:
    x = node(types.float32)
    (y,) = run([x * 0.1], [x], [sample(types.float32)])
    assert y[0] == np.float32(0.1)


def test_whole_numbers_become_floats_where_an_op_needs_them() -> None:
    assert exp(node(types.int64)).dtype == types.float32
    assert div(node(types.int32), node(types.int64)).dtype == types.float32
    types.set_default_dtype("float64")
    assert exp(node(types.bool_)).dtype == types.float64


def test_where_and_maximum_promote_their_branches() -> None:
    assert where(node(types.int64), node(types.float64), 1).dtype == types.float64
    assert maximum(node(types.uint8), 2.5).dtype == types.float32


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "uint32", "int64"])
def test_sums_of_whole_numbers_are_int64(dtype: str) -> None:
    assert sum(node(types.DTYPES[dtype])).dtype == types.int64


def test_names() -> None:
    assert types.as_dtype("double") == types.as_dtype(np.float64) == types.float64
    assert types.as_dtype("long") == types.as_dtype(int) == types.int64
    assert types.as_dtype(float) == types.float32
    assert types.as_dtype(bool) == types.bool_
    with pytest.raises(OptionError, match="did you mean float32"):
        types.as_dtype("flaot32")
    with pytest.raises(DTypeError, match="complex128"):
        types.as_dtype(np.complex128)


def test_default_dtype() -> None:
    types.set_default_dtype("float64")
    with pytest.raises(OptionError, match="float32 or float64"):
        types.set_default_dtype("int64")
    assert types.default_dtype() == types.float64


TRUTH = np.array([True, True, False])


@pytest.mark.parametrize("op", [sub, floor_divide, remainder, pow])
def test_truth_values_are_no_numbers(op: Op) -> None:
    (x,) = input_nodes([TRUTH])
    with pytest.raises(
        DTypeError, match=f"{op.name} needs numbers, but got true or false"
    ) as caught:
        op(x, x)
    assert "a ^ b" in str(caught.value)
    assert op(x, 1).dtype == types.int64


@pytest.mark.parametrize("op", [neg, abs, sign])
def test_truth_values_have_no_sign(op: Op) -> None:
    with pytest.raises(DTypeError, match="numbers"):
        op(input_nodes([TRUTH])[0])


@pytest.mark.parametrize("executor", ["interpreter", "torch"])
def test_sums_and_products_of_truth_values_are_or_and_and(executor: str) -> None:
    arrays = [TRUTH, np.array([True, False, False])]
    x, y = input_nodes(arrays)
    found = run([x + y, x * y, maximum(x, y), minimum(x, y)], [x, y], arrays, executor)
    union, both = [True, True, False], [True, False, False]
    assert [array.tolist() for array in found] == [union, both, union, both]
