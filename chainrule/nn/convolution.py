"""Layers that slide a kernel over their input, and that make it larger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.core.ops.convolution import per_axis
from chainrule.errors import OptionError
from chainrule.nn import functional_vision as functional
from chainrule.nn import init
from chainrule.nn.module import Module, Parameter, takes_device
from chainrule.tensor.tensor import Tensor

Lengths = int | Sequence[int]


class _Conv(Module):
    """What all convolutions share: options, weight and bias."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False

    def _build(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Lengths,
        stride: Lengths,
        padding: Lengths | str,
        dilation: Lengths,
        groups: int,
        bias: bool,
        padding_mode: str,
        dtype: object,
    ) -> None:
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or value < 1 or value % groups:
                raise OptionError(
                    name=name, expected=f"a multiple of the groups ({groups})", got=value
                )
        if padding_mode != "zeros":
            raise OptionError(name="padding_mode", expected='"zeros"', got=repr(padding_mode))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis("kernel_size", kernel_size, self.rank)
        self.stride = per_axis("stride", stride, self.rank)
        self.padding = (
            padding if isinstance(padding, str) else per_axis("padding", padding, self.rank, 0)
        )
        self.dilation = per_axis("dilation", dilation, self.rank)
        self.groups = groups
        first, second = out_channels, in_channels // groups
        if self.transposed:
            first, second = in_channels, out_channels // groups
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.weight = Parameter(np.zeros((first, second, *self.kernel_size), kind))
        self.bias = Parameter(np.zeros(out_channels, kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: U(-k, k), k = 1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight)[0])
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        if isinstance(self.padding, str) or any(self.padding):
            parts.append(f"padding={self.padding!r}")
        if any(d != 1 for d in self.dilation):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class _ForwardConv(_Conv):
    @takes_device
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Lengths,
        stride: Lengths = 1,
        padding: Lengths | str = 0,
        dilation: Lengths = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: object = None,
    ) -> None:
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, dtype,
        )  # fmt: skip


class Conv1d(_ForwardConv):
    """z[o, p] = bias[o] + sum over c, k of weight[o, c, k] x[c, p stride + k dilation].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output: the number of kernels.
        kernel_size: entries that one kernel sees.
        stride: entries from one window to the next.
        padding: zeros at both ends; "valid" (none), or "same" (the length stays; stride 1).
        dilation: entries of the input from one weight to the next.
        groups: channels in so many groups that do not mix.
        bias: add a learned number to each output channel.
        padding_mode: "zeros".

    Shapes: x (batch, in, length) or (in, length); weight (out, in / groups, kernel); bias (out,).
    Weight and bias start from U(-k, k), k = 1 / sqrt(in / groups * kernel), as in PyTorch.

    Raises:
        ShapeError: another number of channels, or an input shorter than the kernel.

    Example:
        >>> import chainrule as cr
        >>> Conv1d(2, 4, 3, padding=1)(cr.ones(5, 2, 10)).shape
        (5, 4, 10)
    """

    rank = 1

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, length) to (batch, out, length')."""
        return functional.conv1d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Conv2d(_ForwardConv):
    """As :class:`Conv1d`, for images: one output pixel is a weighted sum of a patch of the input.

    Shapes: x (batch, in, height, width) or (in, height, width);
    weight (out, in / groups, kernel height, kernel width); bias (out,).

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Example:
        >>> import chainrule as cr
        >>> Conv2d(3, 8, 3, stride=2, padding=1)(cr.ones(2, 3, 32, 32)).shape
        (2, 8, 16, 16)
    """

    rank = 2

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, height, width) to (batch, out, height', width')."""
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


# ---------------------------------------------------------------------------- transposed


class _TransposedConv(_Conv):
    transposed = True

    @takes_device
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Lengths,
        stride: Lengths = 1,
        padding: Lengths = 0,
        output_padding: Lengths = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Lengths = 1,
        padding_mode: str = "zeros",
        dtype: object = None,
    ) -> None:
        self.output_padding = per_axis("output_padding", output_padding, self.rank, 0)
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, ...) to (batch, out, ...), about ``stride`` times as long."""
        assert not isinstance(self.padding, str)
        conv = (functional.conv_transpose1d, functional.conv_transpose2d)[self.rank - 1]
        return conv(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_TransposedConv):
    """The transpose of :class:`Conv1d`: each entry adds its multiple of the kernel to the output.

    Args: as :class:`Conv1d`, and
        output_padding: entries more at the end; below the stride or the dilation.

    Shapes: x (batch, in, length), weight (in, out / groups, kernel), z (batch, out,
    (length - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1).

    Example:
        >>> import chainrule as cr
        >>> ConvTranspose1d(4, 2, 2, stride=2)(cr.ones(1, 4, 5)).shape
        (1, 2, 10)
    """

    rank = 1


class ConvTranspose2d(_TransposedConv):
    """As :class:`ConvTranspose1d`, for images: they become larger by the stride.

    Source: Zeiler et al., "Deconvolutional networks", 2010.

    Example:
        >>> import chainrule as cr
        >>> ConvTranspose2d(8, 3, 4, stride=2, padding=1)(cr.ones(2, 8, 16, 16)).shape
        (2, 3, 32, 32)
    """

    rank = 2


# ---------------------------------------------------------------------------- size


class Upsample(Module):
    """An image made larger, to ``size`` or by ``scale_factor``: "nearest", "bilinear" ...

    Example:
        >>> import chainrule as cr
        >>> Upsample(scale_factor=2)(cr.ones(1, 3, 4, 4)).shape
        (1, 3, 8, 8)
    """

    def __init__(
        self,
        size: Lengths | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) to (batch, channels, ...) of another size."""
        return functional.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners
        )

    def extra_repr(self) -> str:
        given = f"size={self.size}" if self.size else f"scale_factor={self.scale_factor}"
        return f"{given}, mode={self.mode!r}"


class ZeroPad2d(Module):
    """Zeros around images: one number for all edges, or (left, right, top, bottom)."""

    def __init__(self, padding: Lengths) -> None:
        self.padding = per_axis("padding", padding, 4, -(10**9))

    def forward(self, x: Tensor) -> Tensor:
        """(..., height, width) to (..., top + height + bottom, left + width + right)."""
        return functional.pad(x, self.padding)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class PixelShuffle(Module):
    """(..., channels r^2, height, width) to (..., channels, height r, width r).

    Source: Shi et al., "Real-time single image and video super-resolution", 2016.
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """r^2 channels to one that is r times as high and wide."""
        return functional.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class Unflatten(Module):
    """One axis made several: rows to images."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to (batch, channels, height, width), for example."""
        at = self.dim % x.ndim
        lengths = list(self.unflattened_size)
        if lengths.count(-1) == 1:
            known = math.prod(n for n in lengths if n != -1)
            lengths[lengths.index(-1)] = x.shape[at] // max(known, 1)
        return x.reshape(*x.shape[:at], *lengths, *x.shape[at + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
