"""Images made larger or smaller: the nearest pixel, or straight lines between pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.core.dtype import float32, int64
from chainrule.core.graph import Node, Shape, TensorType
from chainrule.core.op import Notation, Op, located
from chainrule.core.ops.arithmetic import abs, cast, floor, maximum, minimum
from chainrule.core.ops.functions import function
from chainrule.core.ops.pooling import along
from chainrule.core.ops.shape import iota, take, unsqueeze
from chainrule.errors import OptionError, ShapeError

# Input pixels from one output pixel to the next, for each axis.
Steps = tuple[float, ...]

LINEAR_MODES = ("linear", "bilinear", "trilinear")


def _type(x: TensorType, *, size: Shape, **_: object) -> TensorType:
    return TensorType((*x.shape[: len(x.shape) - len(size)], *size), x.dtype)


def _nearest(x: Node, *, size: Shape, steps: Steps) -> Node:
    """y[i] = x[floor(i step)], in float32 as in PyTorch, where the two round to other pixels."""
    for axis, (length, step) in enumerate(zip(size, steps, strict=True), x.ndim - len(size)):
        place = cast(floor(cast(iota(length), float32) * step), int64)
        x = take(x, minimum(place, x.shape[axis] - 1), axis)
    return x


UPSAMPLE_NEAREST: Op = function(
    "upsample_nearest",
    _nearest,
    None,
    Notation.call("upsample", r"\operatorname{{upsample}}"),
    infer=_type,
)


def _linear(x: Node, *, size: Shape, steps: Steps, align_corners: bool) -> Node:
    """Each axis in turn: y[i] = sum over j of max(0, 1 - |place of i - j|) x[j]."""
    for axis, (length, step) in enumerate(zip(size, steps, strict=True), x.ndim - len(size)):
        n = x.shape[axis]
        i = cast(iota(length), x.dtype)
        place = i * step if align_corners else maximum((i + 0.5) * step - 0.5, 0.0)
        distance = abs(unsqueeze(minimum(place, n - 1.0), 1) - cast(iota(n), x.dtype))
        x = along(x, maximum(1 - distance, 0.0), axis)
    return x


UPSAMPLE_LINEAR: Op = function(
    "upsample_linear",
    _linear,
    None,
    Notation.call("upsample", r"\operatorname{{upsample}}"),
    infer=_type,
)


def interpolate(
    x: Node,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Node:
    """The spatial axes of (batch, channels, ...) resampled to ``size``, or by ``scale_factor``.

    ``align_corners`` (of linear modes) says that the corners of both images are the same points;
    otherwise their edges are.
    """
    rank = x.ndim - 2
    if mode != "nearest" and mode not in LINEAR_MODES:
        raise located(
            OptionError(
                name="mode",
                expected=f'"nearest" or {", ".join(map(repr, LINEAR_MODES))}',
                got=repr(mode),
                mend="",
            )
        )
    if rank < 1 or 0 in x.shape[2:] or (mode != "nearest" and rank != LINEAR_MODES.index(mode) + 1):
        raise located(
            ShapeError(
                op=f'interpolate (mode="{mode}")',
                expected="a batch (batch, channels, ...) with as many spatial axes as the mode has",
                got=x.shape,
                mend='"linear" is for 1, "bilinear" for 2, "trilinear" for 3 spatial axes',
            )
        )
    if (size is None) == (scale_factor is None):
        raise located(
            OptionError(name="size", expected="given, or scale_factor, but not both", got=size)
        )
    lengths, steps = _lengths(x.shape[2:], size, scale_factor)
    if mode == "nearest":
        return UPSAMPLE_NEAREST(x, size=lengths, steps=tuple(float(np.float32(s)) for s in steps))
    if align_corners:
        steps = tuple(
            (n - 1) / (m - 1) if m > 1 else 0.0 for n, m in zip(x.shape[2:], lengths, strict=True)
        )
    return UPSAMPLE_LINEAR(x, size=lengths, steps=steps, align_corners=bool(align_corners))


def _lengths(
    spatial: Shape, size: int | Sequence[int] | None, factor: float | Sequence[float] | None
) -> tuple[Shape, Steps]:
    rank = len(spatial)
    if size is not None:
        lengths = (size,) * rank if isinstance(size, int) else tuple(size)
        factors = None
    else:
        assert factor is not None
        factors = (factor,) * rank if isinstance(factor, int | float) else tuple(factor)
        lengths = tuple(int(n * f) for n, f in zip(spatial, factors, strict=False))
    if len(lengths) != rank or any(length < 1 for length in lengths):
        raise located(
            OptionError(
                name="size",
                expected=f"{rank} numbers from 1 up",
                got=size if factors is None else f"scale_factor={factor} of {spatial}",
            )
        )
    if factors is not None:
        return lengths, tuple(1 / f for f in factors)
    return lengths, tuple(n / length for n, length in zip(spatial, lengths, strict=True))
