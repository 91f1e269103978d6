"""Functions that make tensors, with PyTorch's ``device=`` and ``requires_grad=``."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core.dtype import bool_, default_dtype, float32, float64, int32, int64, uint8
from chainrule.core.random import random_words
from chainrule.errors import OptionError
from chainrule.tensor import functions
from chainrule.tensor.device import require_cpu
from chainrule.tensor.tensor import Tensor as _Tensor
from chainrule.tensor.tensor import tensor

__all__ = [
    "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "arange", "linspace",
    "eye", "rand", "randn", "rand_like", "randn_like", "randint", "as_tensor", "from_numpy",
    "Generator", "randperm", "normal", "multinomial", "bernoulli", "Tensor", "FloatTensor",
    "DoubleTensor", "LongTensor", "IntTensor", "ByteTensor", "BoolTensor",
]  # fmt: skip

Array = np.ndarray[Any, Any]


def _made(make: Callable[..., _Tensor]) -> Callable[..., _Tensor]:
    """The same function, which also takes a device, ``requires_grad``, and PyTorch's keywords."""

    @functools.wraps(make)
    def apply(
        *args: Any, device: Any = None, requires_grad: bool = False, **options: Any
    ) -> _Tensor:
        require_cpu(device)
        if "fill_value" in options:  # full((2,), fill_value=1.0)
            args = (*args, options.pop("fill_value"))
        if "size" in options and make is not functions.randint:  # zeros(size=(2, 3))
            args = (options.pop("size"), *args)
        made = make(*args, **options)
        return made.requires_grad_() if requires_grad else made

    return apply


zeros = _made(functions.zeros)
ones = _made(functions.ones)
full = _made(functions.full)
zeros_like = _made(functions.zeros_like)
ones_like = _made(functions.ones_like)
full_like = _made(functions.full_like)
arange = _made(functions.arange)
linspace = _made(functions.linspace)
eye = _made(functions.eye)
rand = _made(functions.rand)
randn = _made(functions.randn)
rand_like = _made(functions.rand_like)
randn_like = _made(functions.randn_like)
randint = _made(functions.randint)


def as_tensor(data: Any, dtype: object = None, device: Any = None) -> Any:
    """The tensor itself, or a tensor with a copy of the data."""
    require_cpu(device)
    if isinstance(data, _Tensor):
        return data if dtype is None else data.to(dtype)
    return tensor(data, dtype)


def from_numpy(array: Array) -> Any:
    """A tensor with a copy of an array, in its element type (in PyTorch the memory is shared)."""
    return tensor(array)


class Generator:
    """A stream of random numbers of its own, a function of its seed.

    Example:
        >>> import chainrule.like_torch as torch
        >>> torch.randperm(4, generator=torch.Generator().manual_seed(1)).tolist()
        [2, 3, 0, 1]
    """

    def __init__(self, device: Any = "cpu") -> None:
        require_cpu(device)
        self.seed, self.draws = 0, 0

    def manual_seed(self, seed: int) -> Generator:
        """Start from the beginning of the stream of ``seed``."""
        self.seed, self.draws = int(seed) % 2**64, 0
        return self

    def words(self, count: int) -> Array:
        """Fresh random uint32 numbers."""
        self.draws += 1
        return random_words(self.seed, self.draws - 1, count)


def randperm(n: int, *, generator: Generator | None = None, device: Any = None) -> Any:
    """0 ... n - 1 in random order, from the generator or from ``torch.manual_seed``."""
    require_cpu(device)
    if generator is None:
        return functions.randperm(n)
    return tensor(np.argsort(generator.words(n), kind="stable"))


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, device: Any = None) -> _Tensor:
    """Normal numbers with a mean and a standard deviation, each a number or a tensor."""
    require_cpu(device)
    if size is None:
        size = (mean if isinstance(mean, _Tensor) else std).shape
    made: _Tensor = functions.randn(*size) * std + mean
    return made


def multinomial(
    input: _Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Any:
    """Columns drawn with probabilities in proportion to the weights of each row.

    Args:
        input: weights, not negative, (columns,) or (rows, columns); they need not sum to 1.
        num_samples: how many columns to draw from each row.
        replacement: whether a column may be drawn twice.
        generator: where the random numbers come from; ``torch.manual_seed`` when not given.

    Returns:
        (num_samples,) or (rows, num_samples), int64.

    Raises:
        OptionError: weights that are no probabilities, or more samples than columns to draw.
    """
    weights = input.numpy().astype(np.float64)
    rows = np.atleast_2d(weights)
    if not (np.isfinite(rows).all() and (rows >= 0).all() and rows.sum(1).all()):
        raise OptionError(
            name="input", expected="weights of at least 0, not all of them 0", got=input
        )
    if not replacement and num_samples > (rows > 0).sum(1).min():
        raise OptionError(
            name="num_samples", expected="at most the columns with a weight, without replacement",
            got=num_samples, mend="replacement=True",
        )  # fmt: skip
    count = num_samples if replacement else rows.shape[1]
    unit = _uniform((len(rows), count), generator)
    if replacement:  # where the running sum of the probabilities passes a uniform number
        edges = (rows / rows.sum(1, keepdims=True)).cumsum(1)
        drawn = (edges[:, None, :-1] <= unit[:, :, None]).sum(-1)
    else:  # the first arrivals of clocks that run at the speed of the weights
        with np.errstate(divide="ignore"):
            arrivals = -np.log1p(-unit) / rows
        arrivals[rows == 0] = np.inf
        drawn = arrivals.argsort(1, kind="stable")[:, :num_samples]
    return tensor(drawn.reshape(*weights.shape[:-1], num_samples))


def bernoulli(input: _Tensor, *, generator: Generator | None = None) -> _Tensor:
    """1 with the probability that each entry says, else 0."""
    unit = _uniform(input.shape, generator)
    drawn: _Tensor = tensor((unit < input.numpy()).astype(input.dtype))
    return drawn


def _uniform(shape: Any, generator: Generator | None) -> Array:
    """Numbers in [0, 1) from the generator, or from ``torch.manual_seed``."""
    if generator is None:
        return functions.rand(shape, dtype=float64).numpy()
    return generator.words(math.prod(shape)).reshape(shape) * 2.0**-32


# ------------------------------------------------------------------------- constructors by type


class _Constructor(type):
    """``Tensor(...)`` makes a float tensor; every tensor of the library is an instance."""

    dtype: Any

    def __call__(cls, *data: Any) -> Any:
        dtype = cls.dtype or default_dtype()
        if data and all(isinstance(length, int) for length in data):
            return functions.zeros(*data, dtype=dtype)
        return tensor(data[0] if data else [], dtype)

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _Tensor) and cls.dtype in (None, value.dtype)


class Tensor(metaclass=_Constructor):
    """``torch.Tensor(data)``: float numbers; ``torch.Tensor(2, 3)``: zeros of that shape."""

    dtype = None


class FloatTensor(metaclass=_Constructor):
    """A float32 tensor."""

    dtype = float32


class DoubleTensor(metaclass=_Constructor):
    """A float64 tensor."""

    dtype = float64


class LongTensor(metaclass=_Constructor):
    """An int64 tensor."""

    dtype = int64


class IntTensor(metaclass=_Constructor):
    """An int32 tensor."""

    dtype = int32


class ByteTensor(metaclass=_Constructor):
    """A uint8 tensor."""

    dtype = uint8


class BoolTensor(metaclass=_Constructor):
    """A tensor of truth values."""

    dtype = bool_
