"""Initial values of parameters. Functions write the tensor they are given, and return it.

``fan_in`` is the number of inputs of one output, ``fan_out`` the number of outputs of one input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.functions import rand, randn
from chainrule.tensor.state import current
from chainrule.tensor.variable import VariableTensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "fans",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

# Gains that keep the variance through an activation, as PyTorch's calculate_gain.
_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """The factor on the standard deviation that suits an activation; ``param``: a leaky slope."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + param**2))
    if nonlinearity not in _GAINS:
        raise OptionError(
            name="nonlinearity",
            expected=", ".join([*_GAINS, "leaky_relu"]),
            got=repr(nonlinearity),
            mend="",
        )
    return _GAINS[nonlinearity]


def fans(x: VariableTensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight (out, in, ...)."""
    if x.ndim < 2:
        raise ShapeError(
            op="init", expected="a weight with at least 2 axes", got=x.shape, mend="use uniform_"
        )
    window = math.prod(x.shape[2:])
    return x.shape[1] * window, x.shape[0] * window


def _write(x: VariableTensor, value: Any) -> VariableTensor:
    x.copy_(value)
    current().flush()
    return x


def uniform_(x: VariableTensor, a: float = 0.0, b: float = 1.0) -> VariableTensor:
    """Evenly between a and b."""
    return _write(x, rand(*x.shape, dtype=x.dtype) * (b - a) + a)


def normal_(x: VariableTensor, mean: float = 0.0, std: float = 1.0) -> VariableTensor:
    """Normally, with a mean and a standard deviation."""
    return _write(x, randn(*x.shape, dtype=x.dtype) * std + mean)


def constant_(x: VariableTensor, value: float) -> VariableTensor:
    """One number everywhere."""
    return _write(x, value)


def zeros_(x: VariableTensor) -> VariableTensor:
    """0 everywhere."""
    return constant_(x, 0)


def ones_(x: VariableTensor) -> VariableTensor:
    """1 everywhere."""
    return constant_(x, 1)


def xavier_uniform_(x: VariableTensor, gain: float = 1.0) -> VariableTensor:
    """U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio, 2010."""
    a = gain * math.sqrt(6 / sum(fans(x)))
    return uniform_(x, -a, a)


def xavier_normal_(x: VariableTensor, gain: float = 1.0) -> VariableTensor:
    """N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio, 2010."""
    return normal_(x, 0.0, gain * math.sqrt(2 / sum(fans(x))))


def kaiming_uniform_(
    x: VariableTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> VariableTensor:
    """U(-b, b), b = gain sqrt(3 / fan): He et al., 2015; ``a`` is the slope of a leaky ReLU."""
    bound = _kaiming_std(x, a, mode, nonlinearity) * math.sqrt(3)
    return uniform_(x, -bound, bound)


def kaiming_normal_(
    x: VariableTensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> VariableTensor:
    """N(0, s^2), s = gain / sqrt(fan): He et al., 2015."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode, nonlinearity))


def _kaiming_std(x: VariableTensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(name="mode", expected='"fan_in" or "fan_out"', got=repr(mode), mend="")
    fan = fans(x)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def trunc_normal_(
    x: VariableTensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> VariableTensor:
    """Normally, what falls outside a to b being drawn again."""
    if not a < b or mean < a - 2 * std or mean > b + 2 * std:
        raise OptionError(
            name="a and b",
            expected="a < b, with the mean at most 2 standard deviations outside",
            got=f"a={a}, b={b}, mean={mean}, std={std}",
        )
    values = randn(x.numel(), dtype=x.dtype).numpy() * std + mean
    while (outside := (values < a) | (values > b)).any():
        values[outside] = randn(int(outside.sum()), dtype=x.dtype).numpy() * std + mean
    return _write(x, values.reshape(x.shape))


def orthogonal_(x: VariableTensor, gain: float = 1.0) -> VariableTensor:
    """Rows (or columns, if these are fewer) of length ``gain`` at right angles to each other.

    The axes after the first count as one. Source: Saxe, McClelland and Ganguli, 2013.
    """
    fans(x)  # says what is wrong with a vector
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    numbers = randn(max(rows, columns), min(rows, columns), dtype=x.dtype).numpy()
    q, r = np.linalg.qr(numbers)
    q *= np.sign(np.diag(r))  # without it, not every such matrix is equally likely
    return _write(x, (gain * (q.T if rows < columns else q)).reshape(x.shape).astype(x.dtype))


def eye_(x: VariableTensor) -> VariableTensor:
    """1 on the diagonal of a matrix, else 0."""
    if x.ndim != 2:
        raise ShapeError(op="eye_", expected="a matrix", got=x.shape, mend="")
    return _write(x, np.eye(*x.shape, dtype=x.dtype))


def dirac_(x: VariableTensor, groups: int = 1) -> VariableTensor:
    """Kernels of a convolution that pass each channel on as it is."""
    if x.ndim < 3 or groups < 1 or x.shape[0] % groups:
        raise ShapeError(
            op="dirac_",
            expected="a kernel (out, in, ...) whose output channels the groups divide",
            got=f"{x.shape} and groups={groups}",
            mend="",
        )
    values = np.zeros(x.shape, x.dtype)
    centre = tuple(n // 2 for n in x.shape[2:])
    outputs = x.shape[0] // groups
    for channel in range(min(outputs, x.shape[1])):
        place: tuple[Any, ...] = (slice(channel, None, outputs), channel, *centre)
        values[place] = 1
    return _write(x, values)
