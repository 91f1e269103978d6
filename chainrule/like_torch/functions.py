"""Functions on tensors: the library's, and those that are methods or operators here."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.tensor import functions as base
from chainrule.tensor import products
from chainrule.tensor.functions import *  # noqa: F403
from chainrule.tensor.products import *  # noqa: F403
from chainrule.tensor.tensor import Tensor, tensor

__all__ = [
    "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "flip", "gather",
    "numel", "clone", "detach", "amax", "amin", "all", "any", "norm", "clip", "mul", "multiply",
    "div", "divide", "true_divide", "remainder", "floor_divide", "eq", "ne", "lt", "le", "gt",
    "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "isfinite", "count_nonzero",
    "outer", "mv", "add", "sub", "neg", "equal", "is_tensor", "isclose",
]  # fmt: skip
__all__ += base.__all__
__all__ += products.__all__


def _method(name: str) -> Callable[..., Any]:
    """A method as a function of the tensor and its arguments."""

    def apply(input: Tensor, *args: Any, **options: Any) -> Any:
        return getattr(input, name)(*args, **options)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = getattr(Tensor, name).__doc__
    return apply


reshape = _method("reshape")
flatten = _method("flatten")
squeeze = _method("squeeze")
unsqueeze = _method("unsqueeze")
permute = _method("permute")
transpose = _method("transpose")
t = _method("t")
flip = _method("flip")
gather = _method("gather")
numel = _method("numel")
clone = _method("clone")
detach = _method("detach")
amax = _method("amax")
amin = _method("amin")
all = _method("all")
any = _method("any")
norm = _method("norm")
clip = _method("clamp")


def _operator(function: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    """An operator under its PyTorch name; one of the two may be a number."""

    def apply(input: Any, other: Any) -> Any:
        return function(input, other)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"``input {name} other``, entry by entry."
    return apply


mul = multiply = _operator(operator.mul, "mul")
div = divide = true_divide = _operator(operator.truediv, "div")
remainder = _operator(operator.mod, "remainder")
floor_divide = _operator(operator.floordiv, "floor_divide")
eq = _operator(operator.eq, "eq")
ne = _operator(operator.ne, "ne")
lt = _operator(operator.lt, "lt")
le = _operator(operator.le, "le")
gt = _operator(operator.gt, "gt")
ge = _operator(operator.ge, "ge")
logical_and = _operator(operator.and_, "logical_and")
logical_or = _operator(operator.or_, "logical_or")
logical_xor = _operator(operator.xor, "logical_xor")
mv = base.matmul


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return input + (other if alpha == 1 else other * alpha)


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return input - (other if alpha == 1 else other * alpha)


def neg(input: Tensor) -> Tensor:
    """``-input``."""
    return -input


def logical_not(input: Tensor) -> Tensor:
    """True where the input is False, or 0."""
    return ~input.bool()


def isfinite(input: Tensor) -> Tensor:
    """Where an entry is neither infinite nor NaN."""
    return input.abs() < np.inf


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many entries are not 0."""
    return input.bool().long().sum(dim)


def outer(input: Tensor, other: Tensor) -> Tensor:
    """``y[i, j] = input[i] other[j]``."""
    return input.unsqueeze(1) * other.unsqueeze(0)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same entries."""
    return bool(np.array_equal(input.numpy(), other.numpy()))


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor."""
    return isinstance(value, Tensor)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8) -> Tensor:
    """Where two tensors agree to rounding."""
    close: Tensor = tensor(np.isclose(input.numpy(), other.numpy(), rtol=rtol, atol=atol))
    return close
