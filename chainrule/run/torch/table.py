"""How PyTorch computes each op: ``(*tensors, **attrs) -> tensor``, keyed by the op's name.

PyTorch has few operations on uint32: such values are int64 here, cut to 32 bits after every op.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from chainrule.core.dtype import DType
from chainrule.core.graph import Shape
from chainrule.core.ops.shape import check_range

Row = Callable[..., Any]

WORD = 0xFFFFFFFF

ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Put a function into the table."""

    def put_in(made: Row) -> Row:
        ROWS[name] = made
        return made

    return put_in


def torch_dtype(dtype: DType) -> torch.dtype:
    """PyTorch's element type for one of the library's."""
    return torch.int64 if dtype.name == "uint32" else getattr(torch, dtype.name)


# ------------------------------------------------------------------------- leaves and results

ROWS |= {
    "constant": lambda *, value, dtype: torch.tensor(value, dtype=dtype),
    "iota": lambda *, length, dtype: torch.arange(length, dtype=dtype),
    "pick": lambda values, *, index: values[index],
    "written": lambda x, *, variable: x,
}

# ------------------------------------------------------------------------- arithmetic

ROWS |= {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "floor_divide": torch.floor_divide,
    "remainder": torch.remainder,
    "pow": torch.pow,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "abs": torch.abs,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "logical_not": torch.logical_not,
    "isnan": torch.isnan,
    "where": torch.where,
    "cast": lambda x, *, dtype: x.to(dtype),
    "stop_gradient": lambda x: x,
}


@row("sign")
def _sign(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, x.sign())  # PyTorch alone makes NaN 0


# ------------------------------------------------------------------------- shape

ROWS |= {
    "reshape": lambda x, *, shape: x.reshape(shape),
    "permute": lambda x, *, dims: x.permute(dims),
    "broadcast_to": lambda x, *, shape: x.expand(shape),
    "flip": lambda x, *, dims: x.flip(dims),
    "concatenate": lambda *xs, dim: torch.cat(xs, dim),
}


def _windows(starts: Shape, stops: Shape, steps: Shape) -> tuple[slice, ...]:
    return tuple(slice(*bounds) for bounds in zip(starts, stops, steps, strict=True))


@row("slice")
def _slice(x: Tensor, *, starts: Shape, stops: Shape, steps: Shape) -> Tensor:
    return x[_windows(starts, stops, steps)]


@row("pad")
def _pad(x: Tensor, *, low: Shape, high: Shape, interior: Shape) -> Tensor:
    spans = [n + max(n - 1, 0) * inside for n, inside in zip(x.shape, interior, strict=True)]
    out = x.new_zeros([a + n + b for a, n, b in zip(low, spans, high, strict=True)])
    stops = tuple(start + n for start, n in zip(low, spans, strict=True))
    out[_windows(low, stops, tuple(inside + 1 for inside in interior))] = x
    return out


# ------------------------------------------------------------------------- indices


def _checked(op: str, index: Tensor, size: int, *what: str) -> Tensor:
    """The index in the type that PyTorch wants; the library's error where it is out of range."""
    if ((index < 0) | (index >= size)).any():
        check_range(op, index.cpu().numpy(), size, *what)
    return index.long()


def _at(dim: int, index: Tensor) -> tuple[Any, ...]:
    return (slice(None),) * dim + (index,)


@row("take")
def _take(x: Tensor, index: Tensor, *, dim: int) -> Tensor:
    return x[_at(dim, _checked("indexing", index, x.shape[dim]))]


@row("take_add")
def _take_add(g: Tensor, index: Tensor, *, dim: int, size: int) -> Tensor:
    rows = g.reshape((*g.shape[:dim], index.numel(), *g.shape[dim + index.ndim :]))
    out = g.new_zeros((*g.shape[:dim], size, *rows.shape[dim + 1 :]))
    return out.index_add(dim, _checked("indexing", index, size).reshape(-1), rows)


@row("gather")
def _gather(x: Tensor, index: Tensor, *, dim: int) -> Tensor:
    return x.gather(dim, _checked("gather", index, x.shape[dim]))


@row("gather_add")
def _gather_add(g: Tensor, index: Tensor, *, dim: int, shape: Shape) -> Tensor:
    return g.new_zeros(shape).scatter_add(dim, _checked("gather", index, shape[dim]), g)


@row("put")
def _put(x: Tensor, index: Tensor, values: Tensor, *, dim: int) -> Tensor:
    index = _checked("at[...]", index, x.shape[dim]).reshape(-1)
    rows = values.reshape((*x.shape[:dim], len(index), *x.shape[dim + 1 :]))
    # Of equal indices the last one counts; PyTorch alone promises no order.
    order = torch.arange(len(index), device=x.device)
    last = order.new_zeros(x.shape[dim]).scatter_reduce(0, index, order, "amax")
    kept = last[index] == order
    out = x.clone()
    out[_at(dim, index[kept])] = rows[_at(dim, kept)]
    return out


# ------------------------------------------------------------------------- reduction


@row("sum")
def _sum(x: Tensor, *, dims: Shape, keepdim: bool) -> Tensor:
    return x.sum(dims, keepdim, dtype=x.dtype)


@row("amax")
def _amax(x: Tensor, *, dims: Shape, keepdim: bool) -> Tensor:
    return x.amax(dims, keepdim)


@row("argmax")
def _argmax(x: Tensor, *, dim: int, keepdim: bool) -> Tensor:
    return (x.byte() if x.dtype == torch.bool else x).argmax(dim, keepdim)


@row("sort")
def _sort(x: Tensor, *, dim: int, descending: bool) -> tuple[Tensor, ...]:
    return tuple(torch.sort(x, dim=dim, descending=descending, stable=True))


# ------------------------------------------------------------------------- linear

ROWS["matmul"] = torch.matmul

# ------------------------------------------------------------------------- random


def _times(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Upper and lower half of a product of two 32-bit words, in arithmetic of 63 bits."""
    upper, lower = word * (multiplier >> 16), word * (multiplier & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (word * multiplier) & WORD


def philox(counter: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Ten rounds of Philox4x32, as :func:`chainrule.core.random.philox`, on int64 tensors."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        (high0, low0), (high2, low2) = _times(c0, 0xD2511F53), _times(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return [c0, c1, c2, c3]


@row("random_bits")
def _bits(seed: Tensor, base: Tensor, *, ordinal: int, shape: Shape) -> Tensor:
    count, draw, number = math.prod(shape), int(base) + ordinal, int(seed)
    block = torch.arange((count + 3) // 4, device=seed.device)
    draws = [torch.full_like(block, half) for half in (draw & WORD, draw >> 32 & WORD)]
    words = philox([block & WORD, block >> 32, *draws], (number & WORD, number >> 32 & WORD))
    return torch.stack(words, 1).reshape(-1)[:count].reshape(shape)


@row("random_uniform")
def _uniform(
    seed: Tensor, base: Tensor, *, ordinal: int, shape: Shape, dtype: torch.dtype
) -> Tensor:
    return (_bits(seed, base, ordinal=ordinal, shape=shape) >> 8).to(dtype) * 2.0**-24


# ------------------------------------------------------------------------- named functions

ROWS |= {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda z, *, slope: functional.leaky_relu(z, slope),
    "elu": lambda z, *, alpha: functional.elu(z, alpha),
    "silu": functional.silu,
    "gelu": lambda z, *, approximate: functional.gelu(z, approximate=approximate),
    "softmax": lambda z, *, dim: torch.softmax(z, dim),
    "log_softmax": lambda z, *, dim: torch.log_softmax(z, dim),
    "square": torch.square,
    "linear": functional.linear,
}


@row("cross_entropy")
def _cross_entropy(z: Tensor, y: Tensor, *, reduction: str) -> Tensor:
    classes = z.shape[1 if z.ndim > 1 else 0]
    labels = _checked("cross_entropy", y, classes, "classes", "类别")
    return functional.cross_entropy(z, labels, reduction=reduction)
