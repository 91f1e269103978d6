"""cr.grad, value_and_grad, gradcheck and functions of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.errors import (
    DTypeError,
    GradcheckError,
    NotScalarError,
    OptionError,
    TracedValueError,
)

X = np.array([0.4, -1.3, 2.2])


def test_grad_against_pytorch() -> None:
    def f(m: Any, x: Any, y: Any) -> Any:
        return (m.tanh(x) * m.exp(y) / (1 + x * x)).sum()

    x, y = torch.tensor(X, requires_grad=True), torch.tensor(X[::-1].copy(), requires_grad=True)
    value = f(torch, x, y)
    value.backward()
    ours, (gx, gy) = cr.value_and_grad(lambda a, b: f(cr, a, b), (0, -1))(X, X[::-1].copy())
    np.testing.assert_allclose(ours.numpy(), value.item(), rtol=1e-14)
    np.testing.assert_allclose(gx.numpy(), x.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(gy.numpy(), y.grad.numpy(), rtol=1e-13)


def test_higher_derivatives() -> None:
    f = cr.grad(cr.grad(cr.grad(lambda x: x**4 + cr.sin(x))))
    assert f(cr.tensor(0.7, cr.float64)).item() == pytest.approx(24 * 0.7 - np.cos(0.7), rel=1e-13)


def test_looking_at_a_value_changes_nothing() -> None:
    def f(x: Any) -> Any:
        y = x * 3
        y.tolist()
        return (y * y).sum() if y.sum().item() > 0 else y.sum()

    assert cr.grad(f)(cr.tensor([1.0, 2.0])).tolist() == [18, 36]


def test_grad_and_no_grad() -> None:
    with cr.no_grad():
        assert cr.grad(lambda x: x * x)(cr.tensor(3.0)).item() == 6

    def inside(x: Any) -> Any:
        with cr.no_grad():
            a = x * 2
        return a * x

    assert cr.grad(inside)(cr.tensor(3.0)).item() == 6


def test_grad_of_arguments() -> None:
    f = cr.grad(lambda x, y, scale=1: (x * scale).sum(), argnums=1)
    assert f(cr.ones(2), cr.ones(3)).tolist() == [0, 0, 0]
    w = cr.tensor(2.0, requires_grad=True)
    y = w * 3
    assert cr.grad(lambda a: (a * y).sum())(w).item() == 6  # y is a constant here
    assert cr.grad(lambda x, scale=1: x * scale)(2.0, scale=5).item() == 5
    assert w.grad is None
    with pytest.raises(NotScalarError, match=r"cr\.grad needs a tensor with one element"):
        cr.grad(lambda x: x)(cr.ones(2))
    with pytest.raises(OptionError, match="the number of one of 1 arguments"):
        cr.grad(lambda x: x, 1)(cr.ones(1))
    with pytest.raises(DTypeError, match="argument 0 of int64"):
        cr.grad(lambda x: x.sum())(cr.tensor([1, 2]))


def test_stop_gradient() -> None:
    assert cr.grad(lambda x: x * cr.stop_gradient(x))(cr.tensor(3.0)).item() == 3


# ------------------------------------------------------------------------------ gradcheck


def wrong(factor: float, at: float = -10.0) -> Any:
    """x^2 with a derivative that is wrong beyond a point."""

    @cr.function(derivative=lambda g, y, x: g * cr.where(x > at, factor * x, 2 * x))
    def squared(x: Any) -> Any:
        return x * x

    return squared


def test_gradcheck_accepts_what_is_right() -> None:
    assert cr.gradcheck(lambda x, n: cr.tanh(x) * n, X, np.array([1, 2, 3]))
    assert cr.gradcheck(wrong(2), X)
    assert cr.gradcheck(lambda x: x * 2, 0.5)


def test_gradcheck_names_the_worst_entry() -> None:
    with pytest.raises(GradcheckError) as caught:
        cr.gradcheck(wrong(2.5), [[0.1, -0.2, 2.2]])
    assert str(caught.value).startswith(
        "gradient of argument 0[0, 2] is 5.5, but the central difference gives 4.4"
    )
    assert caught.value.facts["error"] == pytest.approx(0.2, rel=1e-6)
    with pytest.raises(GradcheckError, match=r"argument 1\[1\]"):
        cr.gradcheck(lambda a, b: a.sum() * 2 + wrong(3, at=-2.0)(b).sum(), X, [0.0, -1.5])


def test_a_gradient_that_is_not_a_number_is_the_worst() -> None:
    with pytest.raises(GradcheckError, match=r"argument 0\[0\] is nan"):
        cr.gradcheck(
            cr.function(derivative=lambda g, y, x: g * cr.where(x < 0.5, x * float("nan"), 1.0))(
                lambda x: x * 1
            ),
            [0.1, 0.9],
        )


# ------------------------------------------------------------------------------ functions


@cr.function(notation="swish({0})")
def swish(x: Any, *, beta: float = 1.0) -> Any:
    """x sigmoid(beta x)."""
    return x * cr.sigmoid(beta * x)


@cr.function
def polar(x: Any, y: Any) -> Any:
    return cr.sqrt(x * x + y * y), x / y


@cr.function(derivative=lambda g, y, a, b: (g * b, None))
def half_blind(a: Any, b: Any) -> Any:
    return a * b


def test_a_function_with_attributes() -> None:
    x = torch.tensor(X, requires_grad=True)
    y = x * torch.sigmoid(2.0 * x)
    y.sum().backward()
    np.testing.assert_allclose(
        swish(cr.tensor(X), beta=2.0).numpy(), y.detach().numpy(), rtol=1e-13
    )
    found = cr.grad(lambda x: swish(x, beta=2.0).sum())(X)
    np.testing.assert_allclose(found.numpy(), x.grad.numpy(), rtol=1e-13)
    assert swish.__name__ == "swish"
    assert swish.__doc__ == "x sigmoid(beta x)."
    assert cr.gradcheck(cr.grad(lambda x: swish(x, beta=0.5).sum()), X)


def test_a_function_with_two_results() -> None:
    r, q = polar(cr.tensor(3.0), cr.tensor(4.0))
    assert (r.item(), q.item()) == (5, 0.75)
    assert cr.gradcheck(lambda x, y: polar(x, y)[0] * 2 + polar(x, y)[1], X, X + 5)
    assert cr.gradcheck(lambda x, y: polar(x, y)[1], X, X + 5)


def test_a_derivative_of_its_own_is_used() -> None:
    da, db = cr.grad(lambda a, b: half_blind(a, b), (0, 1))(cr.tensor(2.0), cr.tensor(5.0))
    assert (da.item(), db.item()) == (5, 0)


def test_second_derivatives_go_through_the_own_derivative() -> None:
    f = wrong(3)
    assert cr.grad(cr.grad(f))(cr.tensor(2.0)).item() == 3


def test_inside_a_compiled_step() -> None:
    w = cr.tensor(X, requires_grad=True)

    @cr.compile
    def step() -> Any:
        loss = swish(w, beta=2.0).sum() + polar(w, w + 9)[0].sum()
        loss.backward()
        return loss, w.grad

    loss, gradient = step()
    expected = swish(w, beta=2.0).sum() + polar(w, w + 9)[0].sum()
    assert loss.item() == expected.item()
    w.grad = None
    expected.backward()
    assert gradient.tolist() == w.grad.tolist()


def test_python_floats_take_the_type_of_the_tensors() -> None:
    add = cr.function(lambda x, y: x + y)
    assert add(cr.ones(1, dtype=cr.float64), 0.1).dtype == cr.float64
    assert add(cr.ones(1), 0.1).dtype == cr.float32


def test_two_functions_of_one_name() -> None:
    def twice(x: Any) -> Any:
        return x * 2

    first = cr.function(twice)
    second = cr.function(lambda x: x * 3, name="twice")
    assert (first(cr.ones(1)).item(), second(cr.ones(1)).item()) == (2, 3)


def test_what_a_body_must_not_do() -> None:
    table = cr.tensor([1.0, 2.0])
    w = cr.tensor(1.0, requires_grad=True)
    for outside in (lambda x: x + table, lambda x: x * w, lambda x: x + cr.rand(1)):
        with pytest.raises(OptionError, match="must be a function of its inputs alone"):
            cr.function(outside, name="outside")(cr.ones(2))
    with pytest.raises(TracedValueError):
        cr.function(lambda x: x * x.sum().item(), name="looking")(cr.ones(2))
    with pytest.raises(OptionError, match="pass tensors by position"):
        swish(cr.ones(2), beta=cr.ones(1))
    with pytest.raises(OptionError, match="pass tensors by position"):
        swish(cr.ones(2), beta=[1.0])


def test_types_of_results_are_kept_by_the_types_of_inputs() -> None:
    built = []

    def halves(x: cr.Tensor, parts: int = 2) -> Any:
        built.append(x.shape)
        return tuple(x[: x.shape[0] // parts] for _ in range(parts))

    named = cr.function(halves, name="halves")
    assert [y.shape for y in named(cr.ones(4))] == [(2,), (2,)]
    named(cr.zeros(4))
    assert built == [(4,)]
    assert named(cr.ones(6))[0].shape == (3,)
    assert [y.shape for y in named(cr.ones(6), parts=3)] == [(2,)] * 3
    assert named(cr.ones(4, dtype="float64"))[0].dtype == cr.float64
    assert built == [(4,), (6,), (6,), (4,)]
