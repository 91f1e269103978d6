"""Pooling: the largest entry or the mean of every window, along any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chainrule.core.dtype import int64
from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import Joint, Notation, Op, floating, located, register, results
from chainrule.core.ops.arithmetic import cast, floor_divide, less, less_equal, logical_and
from chainrule.core.ops.convolution import (
    CONVOLUTION,
    padded,
    per_axis,
    spread_length,
    window_count,
    windows,
)
from chainrule.core.ops.functions import function
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.shape import (
    full,
    gather_add,
    iota,
    reshape,
    transpose,
    unsqueeze,
)
from chainrule.errors import OptionError, ShapeError

Lengths = int | Sequence[int]


def _counts(x: TensorType, kernel: Shape, stride: Shape, low: Shape, high: Shape) -> Shape:
    """How many windows there are on each spatial axis."""
    spatial = x.shape[len(x.shape) - len(kernel) :]
    counts = tuple(
        window_count(n + a + b, k, s)
        for n, k, s, a, b in zip(spatial, kernel, stride, low, high, strict=True)
    )
    if 0 in counts:
        raise ShapeError(
            op="pooling",
            expected=f"an input of at least the window's size {kernel}",
            got=f"{spatial} (input shape {x.shape})",
            mend="use a smaller window, or fewer layers that shrink the input",
        )
    return counts


def _high(n: int, k: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Zeros after an axis; with ``ceil_mode`` enough for a last window that hangs over the end."""
    over = n + 2 * padding - k
    last = -(-over // stride) * stride  # where that window would start
    return padding + last - over if ceil_mode and last < n + padding else padding


def _options(
    x: Node, kernel: Lengths, stride: Lengths | None, padding: Lengths, rank: int
) -> tuple[Shape, Shape, Shape]:
    """Kernel, stride and padding of each axis, checked."""
    if x.ndim != rank + 2:
        raise located(
            ShapeError(
                op="pooling",
                expected=f"an input (batch, channels, ...) with {rank} spatial axes",
                got=x.shape,
                mend="x.unsqueeze(0) adds a batch axis",
            )
        )
    sizes = per_axis("kernel_size", kernel, rank)
    moves = sizes if stride is None else per_axis("stride", stride, rank)
    zeros = per_axis("padding", padding, rank, 0)
    if any(2 * p > k for p, k in zip(zeros, sizes, strict=True)):
        raise located(
            OptionError(
                name="padding",
                expected=f"at most half the kernel size {sizes}",
                got=padding,
                mend="",
            )
        )
    return sizes, moves, zeros


# ---------------------------------------------------------------------------------- maximum


def _max_type(
    x: TensorType, *, kernel: Shape, stride: Shape, low: Shape, high: Shape, dilation: Shape
) -> tuple[TensorType, TensorType]:
    spans = tuple(spread_length(k, d) for k, d in zip(kernel, dilation, strict=True))
    shape = (*x.shape[:2], *_counts(x, spans, stride, low, high))
    return TensorType(shape, x.dtype), TensorType(shape, int64)


def _max_evaluate(
    x: Array, *, kernel: Shape, stride: Shape, low: Shape, high: Shape, dilation: Shape
) -> tuple[Array, Array]:
    """Values and places; of equal entries the first, in the order of rows."""
    rank = len(kernel)
    ones = (1,) * rank
    view = windows(padded(x, low, high, ones, -math.inf), kernel, stride, dilation)
    counts = view.shape[2 : 2 + rank]
    rows = view.reshape(*view.shape[: 2 + rank], math.prod(kernel))
    best = np.argmax(rows, axis=-1)
    values = np.take_along_axis(rows, best[..., None], -1)[..., 0]
    place = np.zeros_like(best)
    for axis, cell in enumerate(np.unravel_index(best, kernel)):
        starts = np.arange(counts[axis]) * stride[axis] - low[axis]
        starts = starts.reshape(-1, *(1,) * (rank - 1 - axis))
        # A window of nothing but -inf may find it in the padding: its place is kept inside.
        found = np.clip(starts + cell * dilation[axis], 0, x.shape[2 + axis] - 1)
        place = place * x.shape[2 + axis] + found
    return values, place.astype(int64)


def _plane(x: Node, rank: int) -> Node:
    """The spatial axes made one."""
    lead = x.shape[: x.ndim - rank]
    return reshape(x, (*lead, math.prod(x.shape[x.ndim - rank :])))


def _max_rule(
    g: Sequence[Node], y: Sequence[Node], x: Node, *, kernel: Shape, **_: Shape
) -> Sequence[Node | None]:
    """The winner of each window gets the cotangent of its maximum."""
    rank = len(kernel)
    flat = _plane(x, rank)
    share = gather_add(_plane(g[0], rank), _plane(y[1], rank), flat.ndim - 1, flat.shape)
    return (reshape(share, x.shape),)


MAX_POOL: Op = register(
    Op(
        "max_pool",
        _max_type,
        _max_evaluate,
        Joint(_max_rule),
        Notation.call("max_pool", r"\operatorname{{maxpool}}"),
        operands=floating,
    )
)


def max_pool(
    x: Node,
    kernel: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    *,
    rank: int,
) -> tuple[Node, Node]:
    """The largest entry of every window, and its place in the plane (counted row by row).

    Padding never wins. ``stride`` is the kernel size when it is None.
    """
    sizes, moves, zeros = _options(x, kernel, stride, padding, rank)
    gaps = per_axis("dilation", dilation, rank)
    high = tuple(
        _high(n, spread_length(k, d), s, p, ceil_mode)
        for n, k, s, p, d in zip(x.shape[2:], sizes, moves, zeros, gaps, strict=True)
    )
    made = MAX_POOL(x, kernel=sizes, stride=moves, low=zeros, high=high, dilation=gaps)
    values, place = results(made)
    return values, place


# ---------------------------------------------------------------------------------- mean


def _window_sum(x: Node, kernel: Shape, stride: Shape, low: Shape, high: Shape) -> Node:
    """Windows of each plane summed: a convolution with a kernel of ones."""
    rank = len(kernel)
    lead, spatial = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
    ones = (1,) * rank
    planes = reshape(x, (math.prod(lead), 1, *spatial))
    summed = CONVOLUTION(
        planes,
        full((1, 1, *kernel), 1, x.dtype),
        stride=stride,
        low=low,
        high=high,
        dilation=ones,
        spread=ones,
        groups=1,
    )
    return reshape(summed, (*lead, *summed.shape[2:]))


def _avg_type(
    x: TensorType,
    *,
    kernel: Shape,
    stride: Shape,
    low: Shape,
    high: Shape,
    count_include_pad: bool,
    divisor: int | None,
) -> TensorType:
    return TensorType((*x.shape[:2], *_counts(x, kernel, stride, low, high)), x.dtype)


def _avg(
    x: Node,
    *,
    kernel: Shape,
    stride: Shape,
    low: Shape,
    high: Shape,
    count_include_pad: bool,
    divisor: int | None,
) -> Node:
    total = _window_sum(x, kernel, stride, low, high)
    whole = low == high and (count_include_pad or not any(low))
    if divisor or whole:
        return total / (divisor or math.prod(kernel))
    ones = full((1, 1, *x.shape[2:]), 1, x.dtype)
    if not count_include_pad:
        return total / _window_sum(ones, kernel, stride, low, high)
    # Padding counts, but not what a window hangs over beyond it.
    around = (1, 1, *[n + 2 * p for n, p in zip(x.shape[2:], low, strict=True)])
    beyond = tuple(b - a for a, b in zip(low, high, strict=True))
    none = (0,) * len(kernel)
    return total / _window_sum(full(around, 1, x.dtype), kernel, stride, none, beyond)


AVG_POOL: Op = function(
    "avg_pool",
    _avg,
    None,
    Notation.call("avg_pool", r"\operatorname{{avgpool}}"),
    infer=_avg_type,
)


def avg_pool(
    x: Node,
    kernel: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    *,
    rank: int,
) -> Node:
    """The mean of every window; ``divisor`` replaces the number of its entries."""
    sizes, moves, zeros = _options(x, kernel, stride, padding, rank)
    high = tuple(
        _high(n, k, s, p, ceil_mode)
        for n, k, s, p in zip(x.shape[2:], sizes, moves, zeros, strict=True)
    )
    return AVG_POOL(
        x,
        kernel=sizes,
        stride=moves,
        low=zeros,
        high=high,
        count_include_pad=count_include_pad,
        divisor=divisor,
    )


# ---------------------------------------------------------------------------------- adaptive


def _adaptive_type(x: TensorType, *, size: Shape) -> TensorType:
    return TensorType((*x.shape[: len(x.shape) - len(size)], *size), x.dtype)


def along(x: Node, matrix: Node, axis: int) -> Node:
    """Each row of ``x`` along an axis multiplied by a matrix (out, in)."""
    last = x.ndim - 1
    moved = transpose(x, axis, last) if axis != last else x
    rows = reshape(moved, (math.prod(moved.shape[:-1]), moved.shape[-1]))
    made = reshape(MATMUL(rows, transpose(matrix)), (*moved.shape[:-1], matrix.shape[0]))
    return transpose(made, axis, last) if axis != last else made


def _bins(n: int, size: int) -> tuple[Node, Node]:
    """Where each of ``size`` bins begins and ends: floor(i n / size), ceil((i + 1) n / size)."""
    i = iota(size)
    return floor_divide(i * n, size), floor_divide((i + 1) * n + (size - 1), size)


def _adaptive_avg(x: Node, *, size: Shape) -> Node:
    for axis, length in enumerate(size, x.ndim - len(size)):
        start, stop = (unsqueeze(end, 1) for end in _bins(x.shape[axis], length))
        place = unsqueeze(iota(x.shape[axis]), 0)
        inside = cast(logical_and(less_equal(start, place), less(place, stop)), x.dtype)
        x = along(x, inside / cast(stop - start, x.dtype), axis)
    return x


ADAPTIVE_AVG_POOL: Op = function(
    "adaptive_avg_pool",
    _adaptive_avg,
    None,
    Notation.call("adaptive_avg_pool", r"\operatorname{{avgpool}}"),
    infer=_adaptive_type,
)


def _size(x: Node, size: int | Sequence[int | None], rank: int) -> Shape:
    """The output's length on each axis; None keeps the input's."""
    if x.ndim != rank + 2 or 0 in x.shape[2:]:
        raise located(
            ShapeError(
                op="adaptive pooling",
                expected=f"an input (batch, channels, ...) with {rank} spatial axes, none empty",
                got=x.shape,
                mend="x.unsqueeze(0) adds a batch axis",
            )
        )
    wanted = [size] * rank if isinstance(size, int) else list(size)
    for axis, length in enumerate(wanted[:rank]):
        if length is None:
            wanted[axis] = x.shape[2 + axis]
    return per_axis("output_size", [n for n in wanted if n is not None], rank)


def _even_kernel(x: Node, size: Shape) -> Shape | None:
    """The window, where all are alike and none overlap."""
    pairs = list(zip(x.shape[2:], size, strict=True))
    return tuple(n // m for n, m in pairs) if all(n % m == 0 for n, m in pairs) else None


def adaptive_avg_pool(x: Node, size: int | Sequence[int | None], *, rank: int) -> Node:
    """The means of ``size`` windows that cover the input evenly, and may overlap."""
    lengths = _size(x, size, rank)
    kernel = _even_kernel(x, lengths)
    return avg_pool(x, kernel, rank=rank) if kernel else ADAPTIVE_AVG_POOL(x, size=lengths)


def _adaptive_max_type(x: TensorType, *, size: Shape) -> tuple[TensorType, TensorType]:
    made = _adaptive_type(x, size=size)
    return made, TensorType(made.shape, int64)


def _adaptive_max(x: Array, *, size: Shape) -> tuple[Array, Array]:
    """All windows made as long as the longest by repeating their last entry, which changes none."""
    rank = len(size)
    index: Array = np.zeros((), np.int64)
    for axis, (n, length) in enumerate(zip(x.shape[2:], size, strict=True)):
        i = np.arange(length)
        start, stop = i * n // length, -(-(i + 1) * n // length)
        cells = np.minimum(start[:, None] + np.arange((stop - start).max()), stop[:, None] - 1)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = cells.shape
        index = index * n + cells.reshape(shape)
    index = index.reshape(*size, -1)
    found = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))[..., index]
    best = np.argmax(found, axis=-1)[..., None]
    chosen = np.take_along_axis(np.broadcast_to(index, found.shape), best, -1)
    return np.take_along_axis(found, best, -1)[..., 0], chosen[..., 0]


def _adaptive_max_rule(
    g: Sequence[Node], y: Sequence[Node], x: Node, *, size: Shape
) -> Sequence[Node | None]:
    return _max_rule(g, y, x, kernel=size)


ADAPTIVE_MAX_POOL: Op = register(
    Op(
        "adaptive_max_pool",
        _adaptive_max_type,
        _adaptive_max,
        Joint(_adaptive_max_rule),
        Notation.call("adaptive_max_pool", r"\operatorname{{maxpool}}"),
        operands=floating,
    )
)


def adaptive_max_pool(x: Node, size: int | Sequence[int | None], *, rank: int) -> tuple[Node, Node]:
    """The largest entries of windows as in :func:`adaptive_avg_pool`, and their places."""
    lengths = _size(x, size, rank)
    kernel = _even_kernel(x, lengths)
    if kernel:
        return max_pool(x, kernel, rank=rank)
    values, place = results(ADAPTIVE_MAX_POOL(x, size=lengths))
    return values, place
