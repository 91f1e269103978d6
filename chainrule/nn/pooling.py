"""Layers that take the largest entry, or the mean, of every window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from chainrule.nn import functional_vision as functional
from chainrule.nn.module import Module
from chainrule.tensor.tensor import Tensor

Lengths = int | Sequence[int]


class _MaxPool(Module):
    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Lengths,
        stride: Lengths | None = None,
        padding: Lengths = 0,
        dilation: Lengths = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Any:
        """(batch, channels, ...) to fewer entries on each spatial axis."""
        return type(self).function(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest entry of every window of (batch, channels, length).

    Args: as :class:`MaxPool2d`.

    Example:
        >>> import chainrule as cr
        >>> MaxPool1d(2)(cr.tensor([[[1.0, 4.0, 3.0, 2.0]]])).tolist()
        [[[4.0, 3.0]]]
    """

    function = staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest pixel of every window; in back-propagation the winner gets all of the gradient.

    Args:
        kernel_size: height and width of the window.
        stride: pixels from one window to the next; the kernel size where it is not given.
        padding: pixels around the image, which never win.
        dilation: pixels from one cell of the window to the next.
        return_indices: give the winners' places in the plane, too.
        ceil_mode: a last window may hang over the edge.

    Example:
        >>> import chainrule as cr
        >>> MaxPool2d(2)(cr.ones(1, 3, 8, 8)).shape
        (1, 3, 4, 4)
    """

    function = staticmethod(functional.max_pool2d)


class AvgPool1d(Module):
    """The mean of every window of (batch, channels, length)."""

    def __init__(
        self,
        kernel_size: Lengths,
        stride: Lengths | None = None,
        padding: Lengths = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, length) to fewer entries."""
        return functional.avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of every window of images.

    Args:
        kernel_size: height and width of the window.
        stride: pixels from one window to the next; the kernel size where it is not given.
        padding: zeros around the image.
        ceil_mode: a last window may hang over the edge.
        count_include_pad: the zeros count in the mean.
        divisor_override: divide by this instead of the number of pixels.

    Example:
        >>> import chainrule as cr
        >>> AvgPool2d(2)(cr.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item()
        2.5
    """

    def __init__(
        self,
        kernel_size: Lengths,
        stride: Lengths | None = None,
        padding: Lengths = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to a smaller image."""
        return functional.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The means of ``output_size`` windows that cover the image evenly; None keeps a length.

    Example:
        >>> import chainrule as cr
        >>> AdaptiveAvgPool2d(1)(cr.ones(2, 3, 7, 5)).shape
        (2, 3, 1, 1)
    """

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, *output_size)."""
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(Module):
    """The largest pixels of ``output_size`` windows that cover the image evenly."""

    def __init__(
        self, output_size: int | Sequence[int | None], return_indices: bool = False
    ) -> None:
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Any:
        """(batch, channels, height, width) to (batch, channels, *output_size)."""
        return functional.adaptive_max_pool2d(x, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
