"""Convolution of any spatial rank: one primitive, whose derivatives are convolutions again.

As everywhere in deep learning, the kernel is not flipped:

    y[n, o, p] = sum over c, k of  w[o, c, k] x[n, c, p stride + k dilation - low]

``x`` is (batch, channels, ...), ``w`` is (out, channels / groups, ...), both with the same number
of spatial axes. Before anything else the input can be spread out (``spread - 1`` zeros between its
entries) and padded (``low`` zeros before, ``high`` after; below 0, entries are cut off). With that,
dL/dx, dL/dw and transposed convolution are convolutions too. Source: Dumoulin and Visin, "A guide
to convolution arithmetic for deep learning", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import PRODUCT, UNARY, Notation, Op, located, of_one_dtype, register
from chainrule.core.ops.shape import flip, permute, reshape
from chainrule.errors import OptionError, ShapeError

# ------------------------------------------------------------------------------ lengths


def spread_length(length: int, spread: int) -> int:
    """How long an axis is with ``spread - 1`` zeros between its entries."""
    return (length - 1) * spread + 1 if length else 0


def window_count(length: int, window: int, stride: int) -> int:
    """How many windows fit into a padded axis."""
    return max((length - window) // stride + 1, 0)


def _axes(x: TensorType, w: TensorType, attrs: dict[str, Any]) -> Any:
    """For each spatial axis: length, kernel, stride, low, high, dilation, spread."""
    names = ("stride", "low", "high", "dilation", "spread")
    return zip(x.shape[2:], w.shape[2:], *[attrs[name] for name in names], strict=True)


def _type(x: TensorType, w: TensorType, *, groups: int, **attrs: Any) -> TensorType:
    _check(x, w, groups)
    lengths = []
    for n, k, stride, low, high, dilation, spread in _axes(x, w, attrs):
        padded = spread_length(n, spread) + low + high
        window = spread_length(k, dilation)
        if padded < window:
            raise ShapeError(
                op="convolution",
                expected=f"an input of at least {window} entries per axis, padding included "
                f"(kernel {k}, dilation {dilation})",
                got=f"{padded} (input shape {x.shape})",
                mend="use a smaller kernel or more padding, or fewer layers that shrink the input",
            )
        lengths.append(window_count(padded, window, stride))
    return TensorType((x.shape[0], w.shape[0], *lengths), x.dtype)


def _check(x: TensorType, w: TensorType, groups: int) -> None:
    spatial = len(w.shape) - 2
    if len(x.shape) != spatial + 2:
        raise ShapeError(
            op="convolution",
            expected=f"an input (batch, channels, ...) with {spatial} spatial axes",
            got=x.shape,
            mend="x.unsqueeze(1) adds a channel axis, x.unsqueeze(0) a batch axis",
        )
    if groups < 1 or w.shape[0] % groups:
        raise OptionError(
            name="groups",
            expected=f"a number that divides the {w.shape[0]} output channels",
            got=groups,
            mend="",
        )
    if x.shape[1] != w.shape[1] * groups:
        raise ShapeError(
            op="convolution",
            expected=f"an input with {w.shape[1] * groups} channels in axis 1",
            got=f"{x.shape[1]} (input shape {x.shape})",
            mend="images are (batch, channels, height, width): x.permute(0, 3, 1, 2) "
            "if the channels come last",
        )


# ------------------------------------------------------------------------------ evaluation


def padded(x: Array, low: Shape, high: Shape, spread: Shape, fill: float = 0) -> Array:
    """Spatial axes spread out, then padded with ``fill``, or cut where the padding is below 0."""
    if not any((*low, *high)) and all(s == 1 for s in spread):
        return x
    spans = [spread_length(n, s) for n, s in zip(x.shape[2:], spread, strict=True)]
    lengths = [a + n + b for a, n, b in zip(low, spans, high, strict=True)]
    out = np.full((*x.shape[:2], *lengths), fill, x.dtype)
    target, source = [slice(None)] * 2, [slice(None)] * 2
    for n, s, a, length in zip(x.shape[2:], spread, low, lengths, strict=True):
        first = -(min(a, 0) // s)  # the first entry that is not cut off
        last = min(n, -((a - length) // s))  # one past the last
        start = first * s + a
        source.append(slice(first, max(last, first)))
        target.append(slice(start, start + max(last - first, 0) * s, s))
    out[tuple(target)] = x[tuple(source)]
    return out


def windows(x: Array, kernel: Shape, stride: Shape, dilation: Shape) -> Array:
    """A view (batch, channels, *positions, *kernel) of every window of a padded array."""
    spans = [spread_length(k, d) for k, d in zip(kernel, dilation, strict=True)]
    counts = [
        window_count(n, span, s) for n, span, s in zip(x.shape[2:], spans, stride, strict=True)
    ]
    moves = [step * s for step, s in zip(x.strides[2:], stride, strict=True)]
    inner = [step * d for step, d in zip(x.strides[2:], dilation, strict=True)]
    shape = (*x.shape[:2], *counts, *kernel)
    return as_strided(x, shape, (*x.strides[:2], *moves, *inner), writeable=False)


def _evaluate(
    x: Array,
    w: Array,
    *,
    stride: Shape,
    low: Shape,
    high: Shape,
    dilation: Shape,
    spread: Shape,
    groups: int,
) -> Array:
    """All windows as one matrix, then one matrix product for each group."""
    rank, outputs = w.ndim - 2, w.shape[0]
    view = windows(padded(x, low, high, spread), w.shape[2:], stride, dilation)
    batch, positions = x.shape[0], view.shape[2 : 2 + rank]
    view = view.reshape(batch, groups, w.shape[1], *view.shape[2:]) if groups > 1 else view[:, None]
    place = tuple(range(3, 3 + rank))
    cell = tuple(range(3 + rank, 3 + 2 * rank))
    rows, columns = math.prod(w.shape[1:]), batch * math.prod(positions)
    # The longer of positions and kernel innermost: it is copied in longer runs.
    if math.prod(positions) >= math.prod(w.shape[2:]):
        matrix = view.transpose(1, 2, *cell, 0, *place).reshape(groups, rows, columns)
    else:
        matrix = view.transpose(1, 0, *place, 2, *cell).reshape(groups, columns, rows)
        matrix = matrix.swapaxes(1, 2)
    product = np.matmul(w.reshape(groups, outputs // groups, rows), matrix)
    y = product.reshape(outputs, batch, *positions)
    return np.ascontiguousarray(y.swapaxes(0, 1))


# ------------------------------------------------------------------------------ derivative


def _input_rule(
    g: Node,
    y: Node,
    x: Node,
    w: Node,
    *,
    stride: Shape,
    low: Shape,
    high: Shape,
    dilation: Shape,
    spread: Shape,
    groups: int,
) -> Node:
    """dL/dx: the cotangent, spread by the stride, convolved with the flipped kernel."""
    before, after = [], []
    for n, k, p, s, a, d, e in zip(
        x.shape[2:], w.shape[2:], g.shape[2:], stride, low, dilation, spread, strict=True
    ):
        reach = (k - 1) * d
        before.append(reach - a)
        # As many positions as the spread input has entries, taken every ``spread``-th.
        after.append(spread_length(n, e) + a - spread_length(p, s))
    return CONVOLUTION(
        g,
        transposed_kernel(w, groups),
        stride=spread,
        low=tuple(before),
        high=tuple(after),
        dilation=dilation,
        spread=stride,
        groups=groups,
    )


def _kernel_rule(
    g: Node,
    y: Node,
    x: Node,
    w: Node,
    *,
    stride: Shape,
    low: Shape,
    high: Shape,
    dilation: Shape,
    spread: Shape,
    groups: int,
) -> Node:
    """dL/dw: the input convolved with the cotangent, the batch being what is summed over."""
    after = tuple(
        (k - 1) * d + spread_length(p, s) - spread_length(n, e) - a
        for n, k, p, s, a, d, e in zip(
            x.shape[2:], w.shape[2:], g.shape[2:], stride, low, dilation, spread, strict=True
        )
    )
    made = CONVOLUTION(
        _samples_as_channels(x, groups),
        _swapped(g),
        stride=dilation,
        low=low,
        high=after,
        dilation=stride,
        spread=spread,
        groups=groups,
    )
    return _swapped(made)


def _swapped(x: Node) -> Node:
    """The first two axes exchanged."""
    return permute(x, (1, 0, *range(2, x.ndim)))


def _samples_as_channels(x: Node, groups: int) -> Node:
    """(batch, groups * c, ...) to (c, groups * batch, ...)."""
    batch, channels, *rest = x.shape
    split = reshape(x, (batch, groups, channels // groups, *rest))
    moved = permute(split, (2, 1, 0, *range(3, split.ndim)))
    return reshape(moved, (channels // groups, groups * batch, *rest))


def transposed_kernel(w: Node, groups: int) -> Node:
    """(groups * o, c, ...) to (groups * c, o, ...), flipped: the kernel that leads back."""
    outputs, channels, *window = w.shape
    split = reshape(w, (groups, outputs // groups, channels, *window))
    moved = permute(split, (0, 2, 1, *range(3, split.ndim)))
    back = reshape(moved, (groups * channels, outputs // groups, *window))
    return flip(back, tuple(range(2, back.ndim))) if window else back


CONVOLUTION: Op = register(
    Op(
        "convolution",
        _type,
        _evaluate,
        (_input_rule, _kernel_rule),
        Notation("{1} * {0}", "{1} * {0}", PRODUCT, (UNARY, UNARY)),
        operands=of_one_dtype,
        arity=2,
    )
)


# ------------------------------------------------------------------------------ public


def per_axis(name: str, value: int | Sequence[int], rank: int, least: int = 1) -> Shape:
    """One number for each spatial axis, from one number for all or one for each."""
    numbers = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(numbers) != rank or any(number < least for number in numbers):
        raise located(
            OptionError(
                name=name,
                expected=f"a number from {least} up, or {rank} of them",
                got=value,
                mend="",
            )
        )
    return numbers


def same_padding(kernel: Shape, dilation: Shape) -> tuple[Shape, Shape]:
    """Zeros before and after that keep the length; an odd one stands after, as in PyTorch."""
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    return tuple(r // 2 for r in reach), tuple(r - r // 2 for r in reach)


def convolution(
    x: Node,
    w: Node,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Node:
    """The weighted sums of every window of ``x``.

    Args:
        x: (batch, channels, ...).
        w: (out, channels / groups, ...).
        stride: entries from one window to the next, for each spatial axis or for all.
        padding: zeros at both ends; or "valid" (none), or "same" (as many as keep the length).
        dilation: entries of the input from one weight to the next.
        groups: input and output channels are cut into so many groups that do not mix.
    """
    rank = max(w.ndim - 2, 0)
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    if padding == "same":
        if strides != (1,) * rank:
            raise located(
                OptionError(
                    name="padding",
                    expected='a number where the stride is not 1 ("same" needs stride 1)',
                    got='"same"',
                    mend="",
                )
            )
        low, high = same_padding(w.shape[2:], dilations)
    elif isinstance(padding, str) and padding != "valid":
        raise located(
            OptionError(
                name="padding", expected='a number, "same" or "valid"', got=repr(padding), mend=""
            )
        )
    else:
        low = high = per_axis("padding", 0 if isinstance(padding, str) else padding, rank, 0)
    return CONVOLUTION(
        x,
        w,
        stride=strides,
        low=low,
        high=high,
        dilation=dilations,
        spread=(1,) * rank,
        groups=groups,
    )


def transposed_convolution(
    x: Node,
    w: Node,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Node:
    """What leads a convolution's output shape back to its input shape: its transpose.

    Args:
        x: (batch, channels, ...).
        w: (channels, out / groups, ...).
        stride: the input is spread out by it.
        padding: what the convolution that is led back had.
        output_padding: entries more at the end; below the stride or the dilation.
        groups: channels are cut into so many groups that do not mix.
        dilation: as that of the convolution.
    """
    rank = max(w.ndim - 2, 0)
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    paddings = per_axis("padding", padding, rank, 0)
    extra = per_axis("output_padding", output_padding, rank, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise located(
            OptionError(
                name="output_padding",
                expected="below the stride or the dilation",
                got=output_padding,
                mend="",
            )
        )
    if groups < 1 or w.shape[0] % groups or x.ndim != w.ndim or x.shape[1] != w.shape[0]:
        raise located(
            ShapeError(
                op="transposed convolution",
                expected=f"an input (batch, {w.shape[0]}, ...) with {rank} spatial axes, "
                "its channels a multiple of the groups",
                got=f"{x.shape} and groups={groups}",
                mend="",
            )
        )
    before = tuple(
        (k - 1) * d - p for k, d, p in zip(w.shape[2:], dilations, paddings, strict=True)
    )
    return CONVOLUTION(
        x,
        transposed_kernel(w, groups),
        stride=(1,) * rank,
        low=before,
        high=tuple(b + e for b, e in zip(before, extra, strict=True)),
        dilation=dilations,
        spread=strides,
        groups=groups,
    )
