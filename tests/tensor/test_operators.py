"""Operators, methods and functions of tensors, against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.errors import DTypeError, NotScalarError, OptionError

X = np.array([[0.3, -1.2, 2.5], [1.7, 0.9, -0.4]])
Y = np.array([[1.1, 0.6, -2.0], [0.5, -1.3, 0.8]])
POSITIVE = np.abs(X) + 0.1
CUBE = np.arange(24.0).reshape(2, 3, 4) % 7 - 2.5


def same(ours: Any, theirs: Any) -> None:
    """The same numbers, shape and type."""
    array = theirs.detach().numpy()
    assert ours.shape == array.shape
    assert ours.dtype == array.dtype
    np.testing.assert_allclose(ours.numpy(), array, rtol=1e-12, atol=1e-14)


def same_with_gradient(
    function: Callable[..., Any], *arrays: np.ndarray, other: Any = None
) -> None:
    """Value and gradients of the sum of y * cos(y's index) agree."""
    ours = [cr.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = function(*ours), (other or function)(*theirs)
    same(y, z)
    weights = np.cos(np.arange(y.numel())).reshape(y.shape)
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        if b.grad is None:
            assert a.grad is None
        else:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-14)


BINARY = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: x % y,
    lambda x, y: x @ y.T,
    lambda x, y: x.abs() ** y,
    lambda x, y: x - y[0],
    lambda x, y: x[:, :1] * y,
    lambda x, y: -x + 2 * y - y / 3,
    lambda x, y: 2.0**x,
    lambda x, y: 1 / x,
    lambda x, y: 3 - x,
    lambda x, y: x**2,
    lambda x, y: x**3,
]


@pytest.mark.parametrize("function", BINARY)
def test_operators(function: Callable[..., Any]) -> None:
    same_with_gradient(function, X, Y)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x < y,
        lambda x, y: x <= y,
        lambda x, y: x > y,
        lambda x, y: x >= y,
        lambda x, y: x == y,
        lambda x, y: x != y,
        lambda x, y: x // y,
        lambda x, y: (x > 0) & (y > 0),
        lambda x, y: (x > 0) | (y > 0),
        lambda x, y: ~(x > 0),
        lambda x, y: (x > 0) ^ (y > 0),
        lambda x, y: x.sign(),
        lambda x, y: x.floor(),
        lambda x, y: (x * 4).round(),
        lambda x, y: x.argmax(),
        lambda x, y: x.argmin(-1),
        lambda x, y: x.argmax(0, keepdim=True),
        lambda x, y: x.max(-1)[1],
        lambda x, y: x.min(-1, keepdim=True).indices,
        lambda x, y: (x > 0).any(),
        lambda x, y: (x > 0).all(1),
        lambda x, y: (x > 0).sum(),
        lambda x, y: x.long(),
        lambda x, y: x.int(),
        lambda x, y: x.bool(),
        lambda x, y: x.float(),
        lambda x, y: x.eq(y),
    ],
)
def test_without_gradient(function: Callable[..., Any]) -> None:
    same(function(cr.tensor(X), cr.tensor(Y)), function(torch.tensor(X), torch.tensor(Y)))


METHODS = [
    lambda x: x.exp(),
    lambda x: x.tanh(),
    lambda x: x.sigmoid(),
    lambda x: x.relu(),
    lambda x: x.abs(),
    lambda x: x.sin(),
    lambda x: x.cos(),
    lambda x: x.square(),
    lambda x: abs(x),
    lambda x: x.pow(3),
    lambda x: x.softmax(-1),
    lambda x: x.softmax(0),
    lambda x: x.log_softmax(1),
    lambda x: x.clamp(-1, 1),
    lambda x: x.clamp(min=0.3),
    lambda x: x.clip(max=0.3),
    lambda x: x.sum(),
    lambda x: x.sum(-1),
    lambda x: x.sum((0, 1)),
    lambda x: x.sum(0, keepdim=True),
    lambda x: x.mean(),
    lambda x: x.mean(-2),
    lambda x: x.var(),
    lambda x: x.var(1),
    lambda x: x.var(-1, correction=0),
    lambda x: x.std(0),
    lambda x: x.amax(-1),
    lambda x: x.amin(0),
    lambda x: x.max(),
    lambda x: x.min(),
    lambda x: x.max(1)[0],
    lambda x: x.min(0).values,
    lambda x: x.max(-1, keepdim=True)[0],
    lambda x: x.norm(),
    lambda x: x.norm(dim=1),
    lambda x: x.reshape(3, 2),
    lambda x: x.reshape((-1,)),
    lambda x: x.view(-1, 1),
    lambda x: x.flatten(),
    lambda x: x.t(),
    lambda x: x.T,
    lambda x: x.mT,
    lambda x: x.unsqueeze(-1),
    lambda x: x.unsqueeze(0),
    lambda x: x[:1].squeeze(),
    lambda x: x[:1].squeeze(0),
    lambda x: x[:1].squeeze(-1),
    lambda x: x.transpose(-1, 0),
    lambda x: x.permute(1, 0),
    lambda x: x.flip(-1),
    lambda x: x.flip(0, 1),
    lambda x: x[:1].expand(4, 3),
    lambda x: x[:1].expand(2, -1),
    lambda x: x[:, :1].expand_as(x),
    lambda x: x.matmul(x.T),
    lambda x: x.mm(x.T),
    lambda x: x[0].dot(x[1]),
    lambda x: x.mv(x[0]),
    lambda x: x.clone(),
    lambda x: x.contiguous(),
    lambda x: x.view_as(x),
]


@pytest.mark.parametrize("function", METHODS)
def test_methods(function: Callable[..., Any]) -> None:
    same_with_gradient(function, X)


def test_flatten_keeps_outer_axes() -> None:
    same_with_gradient(lambda x: x.flatten(1), CUBE)
    same_with_gradient(lambda x: x.flatten(0, -2), CUBE)
    assert cr.tensor(3.0).flatten().shape == (1,)


FUNCTIONS = [
    (POSITIVE, lambda m, x: m.log(x)),
    (POSITIVE, lambda m, x: m.log1p(x)),
    (POSITIVE, lambda m, x: m.sqrt(x)),
    (X, lambda m, x: m.expm1(x)),
    (X, lambda m, x: m.erf(x)),
    (X, lambda m, x: m.exp(x)),
    (X, lambda m, x: m.sin(x)),
    (X, lambda m, x: m.cos(x)),
    (X, lambda m, x: m.tanh(x)),
    (X, lambda m, x: m.sigmoid(x)),
    (X, lambda m, x: m.relu(x)),
    (X, lambda m, x: m.abs(x)),
    (X, lambda m, x: m.square(x)),
    (X, lambda m, x: m.softmax(x, 0)),
    (X, lambda m, x: m.log_softmax(x, -1)),
    (X, lambda m, x: m.pow(x, 2)),
    (X, lambda m, x: m.where(x > 0, x, -2 * x)),
    (X, lambda m, x: m.where(x > 0, 1.0, x)),
    (X, lambda m, x: m.maximum(x, x * x)),
    (X, lambda m, x: m.minimum(x, x * x)),
    (X, lambda m, x: m.clamp(x, -0.5, 0.5)),
    (X, lambda m, x: m.max(x)),
    (X, lambda m, x: m.min(x, 1)[0]),
    (X, lambda m, x: m.sort(x, -1)[0]),
    (X, lambda m, x: m.sort(x, 0, descending=True)[0]),
    (X, lambda m, x: m.argsort(x, -1)),
    (X, lambda m, x: m.cat([x, x * 2], -1)),
    (X, lambda m, x: m.stack([x, x * x], 1)),
    (X, lambda m, x: m.matmul(x, x.T)),
    (X, lambda m, x: m.sum(x, 1)),
    (X, lambda m, x: m.mean(x, -1)),
    (X, lambda m, x: m.var(x, 0)),
    (X, lambda m, x: m.std(x, 1)),
    (X, lambda m, x: m.argmax(x, 1)),
    (X, lambda m, x: m.argmin(x)),
    (X, lambda m, x: m.floor(x)),
    (X, lambda m, x: m.ceil(x)),
    (X, lambda m, x: m.round(x)),
    (X, lambda m, x: m.sign(x)),
    (X, lambda m, x: m.zeros_like(x)),
    (X, lambda m, x: m.ones_like(x)),
    (X, lambda m, x: m.full_like(x, 2.5)),
]


@pytest.mark.parametrize(("array", "function"), FUNCTIONS)
def test_functions(array: np.ndarray, function: Callable[..., Any]) -> None:
    same(function(cr, cr.tensor(array)), function(torch, torch.tensor(array)))


def test_gather_follows_each_row() -> None:
    index = np.array([[2, 0], [1, 1]])
    same_with_gradient(
        lambda x: x.gather(1, cr.tensor(index)), X, other=lambda x: x.gather(1, torch.tensor(index))
    )


def test_making() -> None:
    for function in [
        lambda m: m.zeros(2, 3),
        lambda m: m.ones((2, 3)),
        lambda m: m.full((2,), 7),
        lambda m: m.full((2,), 0.5),
        lambda m: m.full((2,), True),
        lambda m: m.arange(5),
        lambda m: m.arange(1, 3, 0.5),
        lambda m: m.arange(0),
        lambda m: m.arange(5, 0, -2),
        lambda m: m.linspace(0, 1, 5),
        lambda m: m.eye(3),
        lambda m: m.tensor([1, 2]),
        lambda m: m.tensor([1.0, 2]),
        lambda m: m.tensor(True),
        lambda m: m.tensor([[1.5]], dtype=m.float64),
        lambda m: m.zeros(2, dtype=m.int64),
        lambda m: m.tensor(3),
    ]:
        same(function(cr), function(torch))


# ------------------------------------------------------------------------------ types


@pytest.mark.parametrize("number", [2, 2.5, True])
@pytest.mark.parametrize("name", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_python_numbers_are_weak(name: str, number: Any) -> None:
    x = np.array([1, 0, 3]).astype(name)
    same(cr.tensor(x) * number, torch.tensor(x) * number)
    same(number + cr.tensor(x), number + torch.tensor(x))


@pytest.mark.parametrize("left", ["float32", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("right", ["float32", "int32", "int64", "uint8", "bool"])
def test_promotion(left: str, right: str) -> None:
    x, y = np.array([1, 0, 3]).astype(left), np.array([1, 1, 2]).astype(right)
    same(cr.tensor(x) * cr.tensor(y), torch.tensor(x) * torch.tensor(y))
    same(cr.tensor(x) / cr.tensor(y), torch.tensor(x) / torch.tensor(y))


def test_float32_and_float64_do_not_mix() -> None:
    with pytest.raises(DTypeError) as caught:
        cr.ones(2) + cr.ones(2, dtype=cr.float64)
    assert str(caught.value).endswith(
        "add needs one float type, but got float32 and float64.\n"
        "  Mend: x.double() or model.double() makes both float64; x.float() makes both float32"
    )
    assert "test_operators.py:" in str(caught.value)


def test_arrays_on_the_left_make_tensors() -> None:
    x = cr.tensor([1.0, 2.0])
    for y in (np.ones(2, np.float32) * x, np.float64(2) * x, np.ones(2, np.float32) - x):
        assert isinstance(y, cr.Tensor)
        assert y.dtype == cr.float32


def test_comparison_with_other_things_is_false() -> None:
    x = cr.ones(2)
    assert (x == None) is False  # noqa: E711
    assert x != "a"
    assert 2.0 in cr.tensor([1.0, 2.0])


@pytest.mark.parametrize("name", ["uint8", "int64", "int32", "bool"])
def test_least_of_whole_numbers(name: str) -> None:
    x = np.array([[3, 0, 1], [1, 2, 200]]).astype(name)
    assert cr.tensor(x).min().numpy() == x.min()
    assert cr.tensor(x).min().dtype == x.dtype
    np.testing.assert_array_equal(cr.tensor(x).argmin(1).numpy(), x.argmin(1))
    np.testing.assert_array_equal(cr.tensor(x).min(0).values.numpy(), x.min(0))


def test_least_of_the_smallest_integer() -> None:
    x = np.array([5, np.iinfo(np.int64).min, -1])
    assert cr.tensor(x).min().item() == x.min()
    assert cr.tensor(x).argmin().item() == 1


def test_norm_of_zero_has_no_slope() -> None:
    x = cr.tensor([0.0, 0.0], requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0.0, 0.0]
    assert np.isnan(cr.tensor([float("nan")]).norm().item())


# ------------------------------------------------------------------------------ values


def test_python_numbers_from_tensors() -> None:
    x = cr.tensor(2.5)
    assert (float(x), int(x), bool(x), x.item(), f"{x:.2f}") == (2.5, 2, True, 2.5, "2.50")
    assert [10, 20, 30][cr.tensor(1)] == 20
    assert [row.tolist() for row in cr.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    assert len(cr.zeros(4, 2)) == 4
    assert cr.zeros(4, 2).size() == (4, 2)
    assert cr.zeros(4, 2).size(-1) == 2
    with pytest.raises(NotScalarError, match=r"item\(\) needs a tensor with one element"):
        cr.ones(2).item()
    with pytest.raises(TypeError, match="no axes"):
        len(x)
    with pytest.raises(TypeError, match="whole-number"):
        [1, 2][x]


def test_repr() -> None:
    assert repr(cr.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(cr.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(cr.tensor(1.0, dtype=cr.float64)) == "tensor(1., dtype=float64)"
    assert repr(cr.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint8"])
@pytest.mark.parametrize("size", [(), (0, 3), (2, 3)])
def test_bytes(dtype: str, size: tuple[int, ...]) -> None:
    ours, theirs = cr.zeros(size, dtype=dtype), torch.zeros(size, dtype=getattr(torch, dtype))
    assert (ours.itemsize, ours.nbytes) == (theirs.itemsize, theirs.nbytes)
    assert ours.element_size() == theirs.element_size()


def test_numpy_gives_a_copy() -> None:
    x = cr.zeros(2)
    x.numpy()[0] = 5
    np.asarray(x)[0] = 5
    assert x.tolist() == [0, 0]
    data = np.zeros(2)
    y = cr.tensor(data)
    data[0] = 1
    assert y.tolist() == [0, 0]


def test_data_that_is_not_numbers() -> None:
    with pytest.raises(DTypeError, match="numbers of one shape"):
        cr.tensor(["a", "b"])
    with pytest.raises(OptionError, match="did you mean float32"):
        cr.ones(2).to("flaot32")


def test_to_takes_keywords() -> None:
    assert cr.ones(2).to(dtype=cr.float64, device="cpu", non_blocking=True).dtype == cr.float64
    assert cr.ones(2).to(cr.ones(1, dtype=cr.float64)).dtype == cr.float64
