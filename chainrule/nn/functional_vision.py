"""Convolution, pooling and resampling as functions; ``nn.functional`` shows them too.

Inputs are (batch, channels, ...) with one (1d) or two (2d) spatial axes; a single sample may come
without the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.core.graph import Node
from chainrule.core.op import located
from chainrule.core.ops import pooling, resampling
from chainrule.core.ops import shape as shapes
from chainrule.core.ops.arithmetic import where
from chainrule.core.ops.convolution import convolution, transposed_convolution
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.tensor import Tensor, wrap

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "interpolate",
    "max_pool1d",
    "max_pool2d",
    "pad",
    "pixel_shuffle",
]

Lengths = int | Sequence[int]


def _batched(x: Tensor, rank: int, make: Callable[[Node], Any]) -> Any:
    """``make`` of a batch; a single sample is made one, and taken out again."""
    if x.ndim != rank + 1:
        return make(x.node)
    made = make(shapes.unsqueeze(x.node, 0))
    if isinstance(made, tuple):
        return tuple(shapes.squeeze(y, 0) for y in made)
    return shapes.squeeze(made, 0)


# ---------------------------------------------------------------------------------- convolution


def _biased(z: Node, bias: Tensor | None) -> Node:
    """One number added to each output channel."""
    if bias is None:
        return z
    return z + shapes.reshape(bias.node, (1, -1, *(1,) * (z.ndim - 2)))


def _conv(
    rank: int, x: Tensor, weight: Tensor, bias: Tensor | None, make: Callable[[Node], Node]
) -> Tensor:
    if weight.ndim != rank + 2:
        raise located(
            ShapeError(
                op=f"conv{rank}d",
                expected=f"a weight with {rank + 2} axes",
                got=weight.shape,
                mend="(out, in / groups, *kernel)",
            )
        )
    return wrap(_batched(x, rank, lambda node: _biased(make(node), bias)))


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths | str = 0,
    dilation: Lengths = 1,
    groups: int = 1,
) -> Tensor:
    """z[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] x[n, c, p stride + k dilation].

    Args:
        x: (batch, in, length).
        weight: (out, in / groups, kernel).
        bias: (out,), or None.
        stride: entries from one window to the next.
        padding: zeros at both ends; "valid" (none), or "same" (the length stays; stride 1).
        dilation: entries of the input from one weight to the next.
        groups: channels in so many groups that do not mix.

    Returns:
        (batch, out, floor((length + 2 padding - dilation (kernel - 1) - 1) / stride) + 1).
    """
    return _conv(
        1, x, weight, bias,
        lambda node: convolution(node, weight.node, stride, padding, dilation, groups),
    )  # fmt: skip


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths | str = 0,
    dilation: Lengths = 1,
    groups: int = 1,
) -> Tensor:
    """As :func:`conv1d` for images: each output pixel is a weighted sum of a patch of the input.

    Args:
        x: (batch, in, height, width).
        weight: (out, in / groups, kernel height, kernel width).
        bias: (out,), or None.
        stride: pixels from one patch to the next.
        padding: zeros at each edge; "valid" (none), or "same" (the size stays; stride 1).
        dilation: pixels from one weight to the next.
        groups: channels in so many groups that do not mix.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn import functional as F
        >>> edges = F.conv2d(cr.tensor([[[[0.0, 0.0, 1.0]]]]), cr.tensor([[[[-1.0, 1.0]]]]))
        >>> edges.tolist()
        [[[[0.0, 1.0]]]]
    """
    return _conv(
        2, x, weight, bias,
        lambda node: convolution(node, weight.node, stride, padding, dilation, groups),
    )  # fmt: skip


def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths = 0,
    output_padding: Lengths = 0,
    groups: int = 1,
    dilation: Lengths = 1,
) -> Tensor:
    """The transpose of :func:`conv1d`: each entry adds its multiple of the kernel to the output.

    Args:
        x: (batch, in, length).
        weight: (in, out / groups, kernel).

    Returns:
        (batch, out, (length - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1).
    """
    return _conv(
        1, x, weight, bias,
        lambda node: transposed_convolution(
            node, weight.node, stride, padding, output_padding, groups, dilation
        ),
    )  # fmt: skip


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Lengths = 1,
    padding: Lengths = 0,
    output_padding: Lengths = 0,
    groups: int = 1,
    dilation: Lengths = 1,
) -> Tensor:
    """As :func:`conv_transpose1d` for images; weight (in, out / groups, height, width)."""
    return _conv(
        2, x, weight, bias,
        lambda node: transposed_convolution(
            node, weight.node, stride, padding, output_padding, groups, dilation
        ),
    )  # fmt: skip


# ---------------------------------------------------------------------------------- pooling


def _max_pool(
    rank: int,
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None,
    padding: Lengths,
    dilation: Lengths,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    values, indices = _batched(
        x,
        rank,
        lambda node: pooling.max_pool(
            node, kernel_size, stride, padding, dilation, ceil_mode, rank=rank
        ),
    )
    return (wrap(values), wrap(indices)) if return_indices else wrap(values)


def max_pool1d(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest entry of every window; its gradient goes to the first winner."""
    return _max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    dilation: Lengths = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest pixel of every window; its gradient goes to the first winner.

    Args:
        x: (batch, channels, height, width).
        kernel_size: height and width of the window.
        stride: pixels from one window to the next; the kernel size where it is None.
        padding: pixels around the image, which never win.
        dilation: pixels from one cell of the window to the next.
        ceil_mode: a last window may hang over the edge.
        return_indices: give the winners' places in the plane (row * width + column), too.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn import functional as F
        >>> F.max_pool2d(cr.tensor([[[[1.0, 3.0], [2.0, 0.0]]]]), 2).item()
        3.0
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window of (batch, channels, length)."""
    return wrap(
        _batched(
            x,
            1,
            lambda node: pooling.avg_pool(
                node, kernel_size, stride, padding, ceil_mode, count_include_pad, rank=1
            ),
        )
    )


def avg_pool2d(
    x: Tensor,
    kernel_size: Lengths,
    stride: Lengths | None = None,
    padding: Lengths = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of every window of (batch, channels, height, width).

    ``count_include_pad`` counts the zeros of the padding; ``divisor_override`` is divided by
    instead of the number of pixels.
    """
    return wrap(
        _batched(
            x,
            2,
            lambda node: pooling.avg_pool(
                node,
                kernel_size,
                stride,
                padding,
                ceil_mode,
                count_include_pad,
                divisor_override,
                rank=2,
            ),
        )
    )


def adaptive_avg_pool1d(x: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of ``output_size`` windows that cover the input evenly."""
    return wrap(_batched(x, 1, lambda node: pooling.adaptive_avg_pool(node, output_size, rank=1)))


def adaptive_avg_pool2d(x: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """The means of ``output_size`` windows that cover the image evenly; None keeps a length."""
    return wrap(_batched(x, 2, lambda node: pooling.adaptive_avg_pool(node, output_size, rank=2)))


def _adaptive_max_pool(rank: int, x: Tensor, size: Any, return_indices: bool) -> Any:
    values, indices = _batched(
        x, rank, lambda node: pooling.adaptive_max_pool(node, size, rank=rank)
    )
    return (wrap(values), wrap(indices)) if return_indices else wrap(values)


def adaptive_max_pool1d(
    x: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Any:
    """The largest entries of ``output_size`` windows that cover the input evenly."""
    return _adaptive_max_pool(1, x, output_size, return_indices)


def adaptive_max_pool2d(
    x: Tensor, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Any:
    """The largest pixels of ``output_size`` windows that cover the image evenly."""
    return _adaptive_max_pool(2, x, output_size, return_indices)


# ---------------------------------------------------------------------------------- size


def interpolate(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """An image made larger or smaller, to ``size`` or by ``scale_factor``.

    Args:
        x: (batch, channels, ...).
        size: lengths of the spatial axes.
        scale_factor: factors on them.
        mode: "nearest"; "linear", "bilinear" or "trilinear" for 1, 2 or 3 spatial axes.
        align_corners: in linear modes, corners (true) or edges (false) of both images coincide.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn import functional as F
        >>> F.interpolate(cr.tensor([[[1.0, 2.0]]]), scale_factor=2).tolist()
        [[[1.0, 1.0, 2.0, 2.0]]]
    """
    return wrap(resampling.interpolate(x.node, size, scale_factor, mode, align_corners))


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Entries around a tensor: (before, after) of the last axis, then of the one before it ...

    Negative numbers cut entries off.

    Raises:
        OptionError: another mode than "constant".
    """
    if mode != "constant":
        raise located(
            OptionError(name="padding mode", expected='"constant"', got=repr(mode), mend="")
        )
    ends = list(pad)
    if len(ends) % 2 or len(ends) > 2 * x.ndim:
        raise located(
            ShapeError(
                op="pad",
                expected=f"a pair of numbers for at most {x.ndim} axes, the last axis first",
                got=tuple(ends),
                mend="",
            )
        )
    before = [0] * (x.ndim - len(ends) // 2) + ends[-2::-2]
    after = [0] * (x.ndim - len(ends) // 2) + ends[-1::-2]
    starts = tuple(max(-a, 0) for a in before)
    stops = tuple(n - max(-b, 0) for n, b in zip(x.shape, after, strict=True))
    if any(b < a for a, b in zip(starts, stops, strict=True)):
        raise located(
            ShapeError(op="pad", expected="no more cut off than there is", got=tuple(ends), mend="")
        )
    cut = shapes.slice_(x.node, starts, stops)
    low, high = tuple(max(a, 0) for a in before), tuple(max(b, 0) for b in after)
    wide = shapes.pad(cut, low, high)
    if value == 0:
        return wrap(wide)
    inside = shapes.pad(shapes.full(cut.shape, 1, x.dtype), low, high)
    return wrap(where(inside > 0, wide, value))


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(..., channels r^2, height, width) to (..., channels, height r, width r).

    Source: Shi et al., "Real-time single image and video super-resolution", 2016.
    """
    r = upscale_factor
    if r < 1 or x.ndim < 3 or x.shape[-3] % (r * r):
        raise located(
            ShapeError(
                op="pixel_shuffle",
                expected=f"a number of channels that {r}^2 divides",
                got=x.shape,
                mend="",
            )
        )
    *lead, channels, height, width = x.shape
    n = len(lead)
    split = x.reshape(*lead, channels // (r * r), r, r, height, width)
    moved = split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return moved.reshape(*lead, channels // (r * r), height * r, width * r)
