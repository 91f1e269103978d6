"""Functions on tensors: making them, choosing, joining, and mathematics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype, float64, int64
from chainrule.core.graph import Node
from chainrule.core.op import Op, as_node
from chainrule.core.ops import arithmetic, functions, linear, parts, random, reduction, shape
from chainrule.tensor.state import data, known_data, random_node
from chainrule.tensor.tensor import Tensor, _spread, apply, need_node, tensor, wrap

__all__ = [
    "full", "zeros", "ones", "zeros_like", "ones_like", "full_like", "arange", "linspace",
    "eye", "rand", "randn", "rand_like", "randn_like", "randint", "randperm", "bernoulli", "where",
    "maximum", "minimum", "max", "min", "clamp", "sort", "argsort", "cat", "concat", "stack",
    "split", "chunk", "unbind", "topk", "cumsum", "tril", "triu", "masked_fill",
    "one_hot", "exp", "log", "log1p", "expm1", "sqrt", "square", "abs", "sign", "sin", "cos",
    "tanh", "erf", "floor", "ceil", "round", "sigmoid", "relu", "isnan", "softmax",
    "log_softmax", "pow", "matmul", "mm", "dot", "sum", "mean", "var", "std", "argmax",
    "argmin", "stop_gradient", "allclose",
]  # fmt: skip


# ---------------------------------------------------------------------------------- making


def _leaf(node: Node, requires_grad: bool) -> Tensor:
    made = wrap(node)
    return made.requires_grad_() if requires_grad else made


def full(size: Any, value: float, *, dtype: object = None, requires_grad: bool = False) -> Tensor:
    """One number everywhere."""
    kind = as_dtype(dtype) if dtype is not None else as_node(value).dtype
    lengths = (size,) if isinstance(size, int) else tuple(size)
    return _leaf(shape.full(lengths, value, kind), requires_grad)


def zeros(*size: Any, dtype: object = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape."""
    return full(_spread(size), 0, dtype=dtype or default_dtype(), requires_grad=requires_grad)


def ones(*size: Any, dtype: object = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape."""
    return full(_spread(size), 1, dtype=dtype or default_dtype(), requires_grad=requires_grad)


def zeros_like(x: Tensor, dtype: object = None) -> Tensor:
    """Zeros of the shape and type of another tensor."""
    return full(x.shape, 0, dtype=dtype or x.dtype)


def ones_like(x: Tensor, dtype: object = None) -> Tensor:
    """Ones of the shape and type of another tensor."""
    return full(x.shape, 1, dtype=dtype or x.dtype)


def full_like(x: Tensor, value: float, dtype: object = None) -> Tensor:
    """One number in the shape and type of another tensor."""
    return full(x.shape, value, dtype=dtype or x.dtype)


def arange(
    start: float, end: float | None = None, step: float = 1, *, dtype: object = None
) -> Tensor:
    """start, start + step ... up to before ``end``; one argument means ``end``."""
    if end is None:
        start, end = 0, start
    made: Tensor = tensor(
        np.arange(start, end, step).tolist(), dtype=dtype or _kind(start, end, step)
    )
    return made


def _kind(*numbers: float) -> object:
    return default_dtype() if any_float(numbers) else int64


def any_float(numbers: Sequence[float]) -> bool:
    """Whether one of the numbers is a float."""
    return bool(np.any([isinstance(number, float) for number in numbers]))


def linspace(start: float, end: float, steps: int, *, dtype: object = None) -> Tensor:
    """``steps`` numbers evenly from ``start`` to ``end``, both included."""
    made: Tensor = tensor(np.linspace(start, end, steps), dtype=dtype or default_dtype())
    return made


def eye(n: int, *, dtype: object = None) -> Tensor:
    """The identity matrix."""
    made: Tensor = tensor(np.eye(n), dtype=dtype or default_dtype())
    return made


def rand(*size: Any, dtype: object = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1)."""
    kind = as_dtype(dtype) if dtype is not None else default_dtype()
    return _leaf(random_node(random.random_uniform, _spread(size), dtype=kind), requires_grad)


def randn(*size: Any, dtype: object = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers, mean 0, standard deviation 1."""
    kind = as_dtype(dtype) if dtype is not None else default_dtype()
    return _leaf(random_node(random.random_normal, _spread(size), dtype=kind), requires_grad)


def rand_like(x: Tensor) -> Tensor:
    """Uniform numbers in the shape and type of another tensor."""
    return rand(*x.shape, dtype=x.dtype)


def randn_like(x: Tensor) -> Tensor:
    """Normal numbers in the shape and type of another tensor."""
    return randn(*x.shape, dtype=x.dtype)


def randint(low: int, high: int | None = None, size: Any = (), *, dtype: object = None) -> Tensor:
    """Whole numbers from ``low`` to before ``high``; one number means ``high``."""
    if isinstance(high, tuple | list):
        high, size = None, high
    low, high = (0, low) if high is None else (low, high)
    unit = _words(size).to(float64) * 2.0**-32
    return (unit * (high - low)).floor().to(dtype or int64) + low


def randperm(n: int) -> Tensor:
    """0 ... n - 1 in random order."""
    return sort(_words((n,))).indices


def _words(size: Sequence[int]) -> Tensor:
    """32 random bits per entry."""
    return wrap(random_node(random.random_bits, tuple(size)))


def bernoulli(p: Tensor) -> Tensor:
    """1 with the probability that each entry says, else 0."""
    return (rand_like(p) < p).to(p.dtype)


# ---------------------------------------------------------------------------------- choosing


class MaxResult(NamedTuple):
    """Values and the positions they stand at."""

    values: Tensor
    indices: Tensor


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where the condition holds, ``b`` elsewhere."""
    return apply(arithmetic.where, condition, a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, entry by entry; ties share the gradient."""
    return apply(arithmetic.maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, entry by entry; ties share the gradient."""
    return apply(arithmetic.minimum, a, b)


def _winner(x: Tensor, dim: int, keepdim: bool, choose: Callable[..., Node]) -> MaxResult:
    best = choose(x.node, dim, keepdim=True)
    values = shape.gather(x.node, dim, best)
    if not keepdim:
        values, best = shape.squeeze(values, dim), shape.squeeze(best, dim)
    return MaxResult(wrap(values), wrap(best))


def max(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest entry; with ``dim``, ``(values, indices)`` of the first winners along it."""
    if isinstance(dim, Tensor):
        return maximum(x, dim)
    return x.amax() if dim is None else _winner(x, dim, keepdim, reduction.argmax)


def min(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest entry; with ``dim``, ``(values, indices)`` of the first winners along it."""
    if isinstance(dim, Tensor):
        return minimum(x, dim)
    return x.amin() if dim is None else _winner(x, dim, keepdim, reduction.argmin)


def clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Entries kept within bounds; the gradient is 1 inside and at the bounds, else 0."""
    if min is not None:
        x = where(x < min, min, x)
    if max is not None:
        x = where(max < x, max, x)
    return x


def sort(x: Tensor, dim: int = -1, descending: bool = False) -> MaxResult:
    """Entries in order, and where each came from; equal entries keep their order."""
    values, order = reduction.sort(x.node, dim, descending)
    return MaxResult(wrap(values), wrap(order))


def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> MaxResult:
    """The k largest (or smallest) entries along an axis, always in order."""
    values, order = parts.top_k(x.node, k, dim, largest)
    return MaxResult(wrap(values), wrap(order))


def cumsum(x: Tensor, dim: int) -> Tensor:
    """y_i = x_0 + ... + x_i along an axis."""
    return x.cumsum(dim)


def argsort(x: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    """Where the entries in order come from."""
    return sort(x, dim, descending).indices


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros above a diagonal of the last two axes."""
    return x.tril(diagonal)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """Zeros below a diagonal of the last two axes."""
    return x.triu(diagonal)


def masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``value`` where the mask is true, ``x`` elsewhere."""
    return x.masked_fill(mask, value)


# ------------------------------------------------------------------- joining and parting


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after the other along an axis."""
    return wrap(shape.concatenate([x.node for x in tensors], dim))


concat = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis; at once where they are data, such as samples."""
    nodes = [x.node for x in tensors]
    arrays = [array for array in map(known_data, nodes) if array is not None]
    alike = len({(array.shape, array.dtype) for array in arrays}) == 1
    if len(arrays) == len(nodes) and alike and -arrays[0].ndim <= dim + 1 <= arrays[0].ndim + 1:
        return wrap(data(np.stack(arrays, dim)))
    return wrap(shape.stack(nodes, dim))


def split(x: Tensor, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts along an axis: of one size (the last may be smaller), or of the sizes listed."""
    return x.split(split_size, dim)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` parts of equal size along an axis; the last may be smaller."""
    return x.chunk(chunks, dim)


def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Every slice along an axis, without that axis."""
    return x.unbind(dim)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """1 in the column of the class, 0 elsewhere; int64."""
    return wrap(shape.one_hot(labels.node, num_classes, int64))


# ---------------------------------------------------------------------------------- mathematics


def lifted(op: Op, doc: str) -> Callable[[Any], Tensor]:
    """An elementwise op as a function of a tensor."""

    def call(x: Any) -> Tensor:
        return wrap(op(need_node(x)))

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


exp = lifted(arithmetic.exp, "e to the power of each entry.")
log = lifted(arithmetic.log, "The natural logarithm.")
log1p = lifted(arithmetic.log1p, "ln(1 + x), exact near 0.")
expm1 = lifted(arithmetic.expm1, "exp(x) - 1, exact near 0.")
sqrt = lifted(arithmetic.sqrt, "The square root.")
square = lifted(functions.square, "Each entry times itself.")
abs = lifted(arithmetic.abs, "Each entry without its sign.")
sign = lifted(arithmetic.sign, "-1, 0 or 1.")
sin = lifted(arithmetic.sin, "The sine, in radians.")
cos = lifted(arithmetic.cos, "The cosine, in radians.")
tanh = lifted(arithmetic.tanh, "The hyperbolic tangent.")
erf = lifted(arithmetic.erf, "The error function.")
floor = lifted(arithmetic.floor, "The next whole number below.")
ceil = lifted(arithmetic.ceil, "The next whole number above.")
round = lifted(arithmetic.round, "The nearest whole number; halves go to the even one.")
sigmoid = lifted(functions.sigmoid, "1 / (1 + exp(-x)).")
relu = lifted(functions.relu, "max(0, x).")
isnan = lifted(arithmetic.isnan, "Where an entry is not a number.")


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) normalised to sum 1 along ``dim``."""
    return x.softmax(dim)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """ln of softmax."""
    return x.log_softmax(dim)


def pow(x: Any, exponent: Any) -> Tensor:
    """Each entry to a power."""
    base = x if isinstance(x, Tensor) else tensor(x)
    raised: Tensor = base**exponent
    return raised


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product; batch axes broadcast."""
    return wrap(linear.matmul(a.node, b.node))


mm = matmul
dot = matmul


def sum(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum over axes."""
    return x.sum(dim, keepdim)


def mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over axes."""
    return x.mean(dim, keepdim)


def var(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The variance over axes."""
    return x.var(dim, correction, keepdim)


def std(x: Tensor, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """The standard deviation over axes."""
    return x.std(dim, correction, keepdim)


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the first largest entry."""
    return x.argmax(dim, keepdim)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the first smallest entry."""
    return x.argmin(dim, keepdim)


def stop_gradient(x: Tensor) -> Tensor:
    """The same numbers, through which no gradient flows."""
    return x.detach()


def allclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether two tensors agree entry by entry."""
    return bool(np.allclose(a.numpy(), b.numpy(), rtol=rtol, atol=atol))
