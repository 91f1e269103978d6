"""Functions on tensors: the library's, and those that are methods or operators here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.tensor import functions as base
from chainrule.tensor import products
from chainrule.tensor.functions import *  # noqa: F403
from chainrule.tensor.methods import numpy_names
from chainrule.tensor.products import *  # noqa: F403
from chainrule.tensor.tensor import Tensor, tensor

# What is a method, as a function of the tensor and the method's arguments.
_METHODS = [
    "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "flip", "gather",
    "scatter", "scatter_add", "narrow", "numel", "clone", "detach", "sum", "mean", "var", "std",
    "max", "min", "amax", "amin",
    "argmax", "argmin", "all", "any", "norm", "logsumexp", "count_nonzero", "softmax",
    "log_softmax", "cumsum", "log2", "log10", "reciprocal", "rsqrt", "isfinite", "isinf",
    "index_select", "masked_select", "nonzero", "neg", "logical_not", "is_floating_point",
]  # fmt: skip

__all__ = [
    "clip", "mul", "multiply", "div", "divide", "true_divide", "remainder",
    "floor_divide", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor",
    "outer", "mv", "add", "sub", "equal", "is_tensor", "isclose", "where", "cat", "concat", "stack",
    "hstack", "vstack", "bincount", "unique", "cdist", "meshgrid",
]  # fmt: skip
__all__.extend(_METHODS)
__all__ += base.__all__
__all__ += products.__all__


def _method(name: str) -> Callable[..., Any]:
    """A method as a function of the tensor and its arguments."""

    def apply(input: Tensor, *args: Any, **options: Any) -> Any:
        return getattr(input, name)(*args, **options)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = getattr(Tensor, name).__doc__
    return apply


for _name in _METHODS:
    globals()[_name] = _method(_name)
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
cat = concat = numpy_names(base.cat)
stack = numpy_names(base.stack)


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return input + (other if alpha == 1 else other * alpha)


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return input - (other if alpha == 1 else other * alpha)


def where(condition: Any, *branches: Any) -> Any:  # type: ignore[no-redef]
    """One where the condition holds, the other elsewhere; with the condition alone, its indices."""
    return base.where(condition, *branches) if branches else condition.nonzero(as_tuple=True)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: along the second axis, or the first where there is only one."""
    return base.cat(tensors, dim=int(tensors[0].ndim > 1))


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors below each other; one with a single axis counts as a row."""
    return base.cat([x.unsqueeze(0) if x.ndim == 1 else x for x in tensors])


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each whole number from 0 occurs, or the sum of its weights."""
    given = None if weights is None else weights.numpy()
    counts: Tensor = tensor(np.bincount(input.numpy(), given, minlength))
    return counts


def unique(input: Tensor, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The different entries in order; where each entry went, and how often each occurs."""
    array = input.numpy()
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    found = [tensor(values)]
    if return_inverse:
        found.append(tensor(inverse.reshape(array.shape)))
    if return_counts:
        found.append(tensor(counts))
    return found[0] if len(found) == 1 else tuple(found)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of every row of ``x1`` minus every row of ``x2``: (..., n, m)."""
    return (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, -1)


def meshgrid(*axes: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of the points of a grid: one tensor per axis, each of the grid's shape."""
    given = axes[0] if len(axes) == 1 and not isinstance(axes[0], Tensor) else axes
    lengths = [len(axis) for axis in given]
    grids = []
    for number, axis in enumerate(given):
        row = axis.reshape([-1 if i == number else 1 for i in range(len(lengths))])
        grid = row.expand(lengths)
        grids.append(grid.transpose(0, 1) if indexing == "xy" and len(lengths) > 1 else grid)
    return tuple(grids)


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
